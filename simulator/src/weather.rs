//! Clouds: one smooth cover for the whole street, built from three layers of random knots. What the
//! sky is at an instant depends only on the seed and the instant.

use crate::number::float;
use crate::random::Stream;

/// Layers of the cover: knot spacing in seconds, share of the whole. Fronts, groups, single clouds.
const LAYERS: [(i64, f64); 3] = [(3 * 3600, 0.55), (40 * 60, 0.30), (8 * 60, 0.15)];
/// How far the cover swings around its mean.
const SWING: f64 = 1.3;

/// What the clouds leave of the light.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sky {
    /// Light on the ground, as a share of that under a clear sky.
    pub(crate) clearness: f64,
    /// Share of that light which comes from the sky and not straight from the sun.
    pub(crate) diffuse_share: f64,
}

/// The weather over one street.
pub(crate) struct Weather {
    cloudiness: f64,
    layers: [Layer; 3],
}

/// One layer, with the two knots around the last instant that was asked for: a memory, not a state.
struct Layer {
    stream: Stream,
    spacing_s: i64,
    share: f64,
    knots: Option<(i64, f64, f64)>,
}

impl Layer {
    /// The layer's value at an instant, in [0, 1).
    fn at(&mut self, unix_s: i64) -> f64 {
        let index = unix_s.div_euclid(self.spacing_s);
        let (from, to) = match self.knots {
            Some((known, from, to)) if known == index => (from, to),
            _ => (
                self.stream.at(index).unit(),
                self.stream.at(index + 1).unit(),
            ),
        };
        self.knots = Some((index, from, to));
        let x = float(unix_s.rem_euclid(self.spacing_s)) / float(self.spacing_s);
        from + (to - from) * x * x * (3.0 - 2.0 * x)
    }
}

impl Weather {
    /// The weather of `seed` with a mean cover of `cloudiness`.
    pub(crate) fn new(seed: u64, cloudiness: f64) -> Weather {
        let mut number = 0;
        let layers = LAYERS.map(|(spacing_s, share)| {
            number += 1;
            let stream = Stream::new(seed, &format!("weather/{number}"));
            Layer {
                stream,
                spacing_s,
                share,
                knots: None,
            }
        });
        Weather { cloudiness, layers }
    }

    /// Share of the sky that is covered.
    fn cover(&mut self, unix_s: i64) -> f64 {
        let mixed: f64 = self
            .layers
            .iter_mut()
            .map(|layer| layer.share * layer.at(unix_s))
            .sum();
        // The ends stay what they say: cloudiness 0 is always clear, 1 always overcast.
        let room = 2.0 * self.cloudiness.min(1.0 - self.cloudiness);
        (self.cloudiness + (mixed - 0.5) * SWING * room).clamp(0.0, 1.0)
    }

    /// The sky at an instant. Cover to light after Kasten and Czeplak.
    pub(crate) fn sky(&mut self, unix_s: i64) -> Sky {
        let clearness = 1.0 - 0.75 * libm::pow(self.cover(unix_s), 3.4);
        Sky {
            clearness,
            diffuse_share: 1.0 - 0.85 * clearness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sky_depends_only_on_the_instant() {
        let mut forward = Weather::new(5, 0.4);
        let skies: Vec<Sky> = (0..500).map(|i| forward.sky(i * 600)).collect();
        let mut backward = Weather::new(5, 0.4);
        for i in (0..500).rev() {
            assert_eq!(backward.sky(i * 600), skies[usize::try_from(i).unwrap()]);
        }
    }

    #[test]
    fn the_cover_is_smooth_and_has_its_mean() {
        let mut weather = Weather::new(11, 0.5);
        let covers: Vec<f64> = (0..20_000).map(|i| weather.cover(i * 60)).collect();
        let mean = covers.iter().sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.06, "{mean}");
        assert!(covers.windows(2).all(|w| (w[1] - w[0]).abs() < 0.06));
        assert!(covers.iter().any(|c| *c < 0.3) && covers.iter().any(|c| *c > 0.7));
    }

    #[test]
    fn clear_and_overcast_are_the_ends() {
        for (cloudiness, clearness) in [(0.0, 1.0), (1.0, 0.25)] {
            let sky = Weather::new(2, cloudiness).sky(1_782_000_000);
            assert!((sky.clearness - clearness).abs() < 1e-12);
        }
    }
}
