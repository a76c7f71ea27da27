use std::ops::Add;

/// How far packed weights are from what they were, in sums of squares.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Deviation {
    pub(super) errors: f64,
    pub(super) weights: f64,
}

impl Deviation {
    /// Between weights and what became of them.
    pub(super) fn new(weights: &[f32], unpacked: &[f32]) -> Self {
        let square = |number: f64| number * number;
        let errors = weights.iter().zip(unpacked).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
        Self { errors, weights: weights.iter().map(|weight| square(f64::from(*weight))).sum() }
    }

    /// The root of the mean squared error, as a fraction of that of the weights.
    pub(super) fn relative(self) -> f64 {
        if self.weights > 0.0 { (self.errors / self.weights).sqrt() } else { 0.0 }
    }

    /// As text of [`TEXT_LEN`] bytes, whatever the numbers, of which not a bit is lost.
    pub(super) fn to_text(self) -> String {
        format!("{:>HALF$} {:>HALF$}", format!("{:.16e}", self.errors), format!("{:.16e}", self.weights))
    }

    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
        Some(Self { errors: numbers.next()??, weights: numbers.next()?? })
    }
}

impl Add for Deviation {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { errors: self.errors + other.errors, weights: self.weights + other.weights }
    }
}

/// Bytes of the text of one number: a digit, a point, sixteen digits, and an exponent of up to three with its sign.
const HALF: usize = 23;

/// Bytes of the text of both.
pub(super) const TEXT_LEN: usize = 2 * HALF + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_of_one_length_and_exact() {
        for number in [0.0, 1.0, 1.0 / 3.0, f64::MAX, f64::MIN_POSITIVE, 123_456.789] {
            let deviation = Deviation { errors: number, weights: number / 7.0 };
            assert_eq!(deviation.to_text().len(), TEXT_LEN);
            assert_eq!(Deviation::from_text(&deviation.to_text()), Some(deviation));
        }
    }

    #[test]
    fn relative_error_is_of_the_root_mean_square() {
        assert_eq!(Deviation::new(&[3.0, 4.0], &[3.0, 4.5]).relative(), 0.1);
        assert_eq!(Deviation::new(&[0.0], &[0.0]).relative(), 0.0);
    }
}
