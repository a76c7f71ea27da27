/// `eˣ` for numbers up to 0, to the last bits of an f32; what is smaller than 1e-37 is 0.
///
/// Nothing but arithmetic, so that a compiler makes vectors of it.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Where a float of this size has its last bit, a sum is rounded to an integer: its lower bits.
    const INTEGER: f32 = 12_582_912.0;
    let steps = x * std::f32::consts::LOG2_E + INTEGER;
    let n = steps - INTEGER;
    // ln 2 in two parts, so that what is left of x is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let series = r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0)))));
    let fraction = 1.0 + (r + r * series);
    let power = f32::from_bits((steps.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -85.0 { 0.0 } else { fraction * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_equals_that_of_the_standard_library() {
        for i in 0..850_000 {
            let x = -1e-4 * i as f32;
            let (got, want) = (exp(x), x.exp());
            assert!((got - want).abs() <= 3e-7 * want, "{x}: {got}, want {want}");
        }
        assert_eq!((exp(0.0), exp(f32::MIN), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }
}
