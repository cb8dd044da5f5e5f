//! From metrics to a loss curve.

use super::{
    Record,
    chart::{Chart, Mark, Scale, Series},
};

const TRAINING: &str = "#1f6feb";
const HELD_OUT: &str = "#d1540a";
/// For levels to compare with.
const LEVELS: [&str; 4] = ["#57606a", "#8250df", "#1a7f37", "#bf3989"];

/// The most points of a line: one for each pixel of the chart's width, about.
const POINTS: usize = 900;

/// How a loss curve is drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Above the chart.
    pub title: String,
    /// Of the loss.
    pub scale: Scale,
    /// Named losses to compare with, in nats per token, such as that of a simpler model.
    pub levels: Vec<(String, f64)>,
}

impl Curve {
    /// The chart of what was logged: training loss, its running mean where steps are many, and held-out loss.
    pub fn chart(&self, records: &[Record]) -> Chart {
        let points = |of: fn(&Record) -> Option<f64>| -> Vec<(f64, f64)> {
            records.iter().filter_map(|r| Some((r.step as f64, of(r)?))).collect()
        };
        let training = points(|r| r.loss);
        let mut series = Vec::new();
        for ((name, value), colour) in self.levels.iter().zip(LEVELS.iter().cycle()) {
            series.push(Series {
                name: name.clone(),
                colour,
                mark: Mark::Level,
                points: vec![(0.0, *value)],
            });
        }
        let line =
            |name: &str, mark, points: Vec<_>| Series { name: name.into(), colour: TRAINING, mark, points };
        if training.len() >= 50 {
            let smooth = running_mean(&training);
            series.push(line("", Mark::Faint, thinned(&training)));
            series.push(line("training (running mean)", Mark::Line, thinned(&smooth)));
        } else {
            series.push(line("training", Mark::Line, training));
        }
        let held_out = points(|r| r.held_out);
        series.push(Series {
            name: "held-out".into(),
            colour: HELD_OUT,
            mark: Mark::Dots,
            points: thinned(&held_out),
        });
        Chart {
            title: self.title.clone(),
            x: "steps".into(),
            y: "loss, nats per token".into(),
            scale: self.scale,
            series,
        }
    }
}

/// The mean over 1% of the points on either side, and as many on both: at an end that is fewer, so that nothing lags.
fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    // A loss that is not finite would hide all that follow it in a running sum.
    let (mut sums, mut counts) = (vec![0.0], vec![0]);
    for (i, (_, y)) in points.iter().enumerate() {
        sums.push(sums[i] + if y.is_finite() { *y } else { 0.0 });
        counts.push(counts[i] + u32::from(y.is_finite()));
    }
    let reach = (points.len() / 100).max(2);
    let mean = |(i, &(x, _)): (usize, &(f64, f64))| {
        let reach = reach.min(i).min(points.len() - 1 - i);
        let (from, to) = (i - reach, i + reach + 1);
        (x, (sums[to] - sums[from]) / f64::from(counts[to] - counts[from]))
    };
    points.iter().enumerate().map(mean).collect()
}

/// Means of neighbours, so that no line has more points than a screen; the last point stays.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let bucket = points.len().div_ceil(POINTS).max(1);
    if bucket == 1 {
        return points.to_vec();
    }
    let mean = |of: &[(f64, f64)]| {
        let finite = of.iter().filter(|p| p.1.is_finite());
        let (sum, count) = finite.fold((0.0, 0.0), |(sum, count), p| (sum + p.1, count + 1.0));
        (of[of.len() / 2].0, sum / count)
    };
    points.chunks(bucket).map(mean).chain(points.last().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(n: u64) -> Vec<Record> {
        let held_out = |step| (step % 100 == 0).then_some(3.0);
        (1..=n).map(|step| Record { loss: Some(2.0), held_out: held_out(step), ..Record::at(step) }).collect()
    }

    #[test]
    fn a_long_run_is_smoothed_and_thinned_without_moving_a_level_loss() {
        let chart = Curve::default().chart(&records(10_000));
        assert_eq!(chart.series.len(), 3);
        for series in &chart.series[..2] {
            assert!(series.points.len() <= POINTS + 1 && series.points.len() > POINTS / 2);
            assert!(series.points.iter().all(|p| (p.1 - 2.0).abs() < 1e-12));
            assert_eq!(series.points.last().unwrap().0, 10_000.0);
        }
        assert_eq!(chart.series[2].points.len(), 100);
    }

    #[test]
    fn a_short_run_is_drawn_as_it_is_beside_its_levels() {
        let curve = Curve { levels: vec![("unigram".into(), 4.5)], ..Curve::default() };
        let chart = curve.chart(&records(7));
        let names: Vec<_> = chart.series.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["unigram", "training", "held-out"]);
        assert_eq!(chart.series[1].points.len(), 7);
    }

    #[test]
    fn one_loss_that_is_not_finite_spoils_no_mean() {
        let mut points: Vec<_> = (0..100).map(|i| (f64::from(i), 1.0)).collect();
        points[50].1 = f64::INFINITY;
        assert!(running_mean(&points).iter().all(|p| (p.1 - 1.0).abs() < 1e-12));
    }

    #[test]
    fn the_running_mean_follows_a_slope_without_lag() {
        let points: Vec<_> = (0..1000).map(|i| (f64::from(i), 3.0 - 0.002 * f64::from(i))).collect();
        for (mean, point) in running_mean(&points).iter().zip(&points) {
            assert!((mean.1 - point.1).abs() < 1e-12, "{mean:?} {point:?}");
        }
    }
}
