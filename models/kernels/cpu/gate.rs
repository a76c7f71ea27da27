use super::exp::exp;
use super::level::Level;
use super::simd::Simd;
use super::work::Work;

/// Makes `silu(gate) · up` of each gate.
pub(crate) fn gate_by_silu(gate: &mut [f32], up: &[f32]) {
    Level::best().run(Gate { gate, up });
}

struct Gate<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Work for Gate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            // Of a power that does not overflow: both signs have it.
            let small = exp(-gate.abs());
            let part = if *gate < 0.0 { small } else { 1.0 };
            *gate = *gate * (part / (1.0 + small)) * up;
        }
    }
}
