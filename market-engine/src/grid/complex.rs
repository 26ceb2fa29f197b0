//! Complex numbers, as far as power flow needs them.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A complex number.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Complex {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
}

impl Complex {
    /// Zero.
    pub const ZERO: Complex = Complex::new(0.0, 0.0);
    /// One.
    pub const ONE: Complex = Complex::new(1.0, 0.0);

    /// From real and imaginary part.
    #[must_use]
    pub const fn new(re: f64, im: f64) -> Complex {
        Complex { re, im }
    }

    /// From magnitude and angle.
    #[must_use]
    pub fn polar(magnitude: f64, degrees: f64) -> Complex {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Complex::new(magnitude * cos, magnitude * sin)
    }

    /// The conjugate.
    #[must_use]
    pub const fn conj(self) -> Complex {
        Complex::new(self.re, -self.im)
    }

    /// The square of the magnitude.
    #[must_use]
    pub fn norm2(self) -> f64 {
        self.re * self.re + self.im * self.im
    }

    /// The magnitude.
    #[must_use]
    pub fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }

    /// The angle in degrees, above -180 and up to 180.
    #[must_use]
    pub fn degrees(self) -> f64 {
        self.im.atan2(self.re).to_degrees()
    }

    /// Times a real number.
    #[must_use]
    pub fn scale(self, by: f64) -> Complex {
        Complex::new(self.re * by, self.im * by)
    }

    /// True when neither part is infinite or not a number.
    #[must_use]
    pub fn is_finite(self) -> bool {
        self.re.is_finite() && self.im.is_finite()
    }
}

impl Add for Complex {
    type Output = Complex;
    fn add(self, other: Complex) -> Complex {
        Complex::new(self.re + other.re, self.im + other.im)
    }
}

impl AddAssign for Complex {
    fn add_assign(&mut self, other: Complex) {
        *self = *self + other;
    }
}

impl Sub for Complex {
    type Output = Complex;
    fn sub(self, other: Complex) -> Complex {
        Complex::new(self.re - other.re, self.im - other.im)
    }
}

impl Mul for Complex {
    type Output = Complex;
    fn mul(self, other: Complex) -> Complex {
        Complex::new(
            self.re * other.re - self.im * other.im,
            self.re * other.im + self.im * other.re,
        )
    }
}

impl Div for Complex {
    type Output = Complex;
    fn div(self, other: Complex) -> Complex {
        (self * other.conj()).scale(1.0 / other.norm2())
    }
}

impl Neg for Complex {
    type Output = Complex;
    fn neg(self) -> Complex {
        Complex::new(-self.re, -self.im)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_multiplied_is_divided_again() {
        let (a, b) = (Complex::new(3.0, -4.0), Complex::new(-1.5, 0.25));
        assert!(((a * b) / b - a).abs() < 1e-14);
        assert!((a.abs() - 5.0).abs() < 1e-15);
        assert!((a.norm2() - 25.0).abs() < 1e-14);
    }

    #[test]
    fn angles_are_in_degrees() {
        assert!((Complex::polar(2.0, 150.0).degrees() - 150.0).abs() < 1e-12);
        assert!((Complex::new(0.0, -1.0).degrees() + 90.0).abs() < 1e-12);
        assert!((Complex::new(-1.0, 0.0).degrees() - 180.0).abs() < 1e-12);
    }
}
