/// Neighbours in a row that share a scale, in the formats that have groups.
pub(crate) const GROUP: usize = 32;

/// The nearest whole number of one between -2²² and 2²².
pub(super) fn nearest(number: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2²³: no bits are left for fractions
    (number + SHIFT) - SHIFT
}

/// A sum over a group in lanes, which the compiler turns into vectors.
pub(super) fn sum(of: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; 8];
    for start in (0..GROUP).step_by(lanes.len()) {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane += of(start + i);
        }
    }
    lanes.iter().sum()
}
