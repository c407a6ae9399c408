//! Lines and bars over two axes.
use anyhow::{bail, ensure};
use serde::Deserialize;

use super::figure;
use super::svg::{Anchor, Drawing};

/// Lines in one picture: as many as there are colours that can be told apart.
const LINES_MAX: usize = 6;
/// Points of all lines, or bars, in one picture.
const MARKS_MAX: usize = 100_000;
/// About so many numbers stand at an axis.
const TICKS: f64 = 6.0;
/// The picture and what of it the axes enclose, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 696.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 376.0;

/// What to draw.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plot {
    title: String,
    /// What stands at the axes, with its unit.
    x: String,
    y: String,
    #[serde(default)]
    lines: Vec<Line>,
    #[serde(default)]
    bars: Vec<Bar>,
}

/// One line and what it is called.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    points: Vec<[f64; 2]>,
}

/// How many lie between two numbers.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bar {
    from: f64,
    to: f64,
    count: f64,
}

impl Plot {
    /// As SVG, light or dark as the reader's system is.
    pub(crate) fn draw(&self) -> anyhow::Result<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        ensure!(self.lines.len() <= LINES_MAX, "more than {LINES_MAX} lines cannot be told apart");
        ensure!(points().count() + self.bars.len() <= MARKS_MAX, "more than {MARKS_MAX} points");
        if points().count() + self.bars.len() == 0 {
            bail!("there is nothing to draw: neither lines nor bars");
        }
        let sides = self.bars.iter().flat_map(|bar| [bar.from, bar.to]);
        let x = Axis::over(points().map(|[x, _]| *x).chain(sides), LEFT, RIGHT)?;
        let heights = self.bars.iter().map(|bar| bar.count);
        let y = Axis::over(points().map(|[_, y]| *y).chain(heights), BOTTOM, TOP)?;
        let mut drawing = Drawing::new(WIDTH, HEIGHT, &self.title);
        self.draw_frame(&mut drawing, &x, &y);
        for bar in &self.bars {
            // A thin gap tells one bar from the next.
            let (left, right, top) = (x.place(bar.from) + 0.5, x.place(bar.to) - 0.5, y.place(bar.count));
            drawing.rectangle(left, top, (right - left).max(0.5), (BOTTOM - top).max(0.0));
        }
        for (index, line) in self.lines.iter().enumerate() {
            let places: Vec<[f64; 2]> = line.points.iter().map(|[u, v]| [x.place(*u), y.place(*v)]).collect();
            drawing.line(index, &places);
        }
        self.draw_legend(&mut drawing);
        Ok(drawing.finish())
    }

    fn draw_frame(&self, drawing: &mut Drawing, x: &Axis, y: &Axis) {
        drawing.text("title", LEFT, 28.0, Anchor::Start, &self.title);
        for tick in y.ticks() {
            let at = y.place(tick);
            drawing.rule(LEFT, at, RIGHT, at);
            drawing.text("tick", LEFT - 8.0, at + 4.0, Anchor::End, &figure(tick));
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            drawing.rule(at, BOTTOM, at, BOTTOM + 5.0);
            drawing.text("tick", at, BOTTOM + 20.0, Anchor::Middle, &figure(tick));
        }
        drawing.text("label", f64::midpoint(LEFT, RIGHT), BOTTOM + 46.0, Anchor::Middle, &self.x);
        drawing.text_upwards("label", 20.0, f64::midpoint(TOP, BOTTOM), &self.y);
    }

    /// Names in a row above the lines. One line needs none: the title says what it is.
    fn draw_legend(&self, drawing: &mut Drawing) {
        if self.lines.len() < 2 {
            return;
        }
        let count = u32::try_from(self.lines.len()).unwrap_or(1);
        let step = (RIGHT - LEFT) / f64::from(count);
        let mut left = LEFT;
        for (index, line) in self.lines.iter().enumerate() {
            drawing.line(index, &[[left, 50.0], [left + 20.0, 50.0]]);
            drawing.text("tick", left + 26.0, 54.0, Anchor::Start, &line.name);
            left += step;
        }
    }
}

/// From numbers to pixels.
#[derive(Debug)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Over all values and zero, up to a round number; `from` and `to` are pixels.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> anyhow::Result<Self> {
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for value in values {
            ensure!(value.is_finite() && value.abs() < 1e15, "{value} cannot be drawn");
            (low, high) = (low.min(value), high.max(value));
        }
        if high - low <= f64::EPSILON {
            high = low + 1.0;
        }
        let rough = (high - low) / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0].iter().map(|digit| digit * power).find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        Ok(Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step, from, to })
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        // A step is at least a sixth of the values' span, and rounding adds one at each end.
        let places = (0..=u32::from(u8::MAX)).map(|count| self.low + f64::from(count) * self.step);
        places.take_while(|tick| *tick <= self.high + self.step / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(json: &str) -> anyhow::Result<String> {
        serde_json::from_str::<Plot>(json)?.draw()
    }

    #[test]
    fn lines_have_axes_with_labels_and_a_legend() {
        let svg = draw(
            r#"{"title": "CPU <by> viewers", "x": "viewers", "y": "CPU (% of a core)", "lines": [
                {"name": "one & only", "points": [[0, 0], [1000, 31]]},
                {"name": "other", "points": [[0, 0], [1000, 93]]}]}"#,
        )
        .unwrap();
        for part in
            ["CPU &lt;by&gt; viewers", "CPU (% of a core)", ">viewers<", ">100<", ">1,000<", "one &amp; only"]
        {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(svg.contains("prefers-color-scheme: dark"));
        assert_eq!(svg.matches("<polyline").count(), 4);
    }

    #[test]
    fn bars_stand_on_the_axis() {
        let svg = draw(
            r#"{"title": "Delay", "x": "delay (ms)", "y": "frames",
                "bars": [{"from": 0, "to": 10, "count": 5}, {"from": 10, "to": 20, "count": 0}]}"#,
        )
        .unwrap();
        assert_eq!(svg.matches("<rect class=\"bar\"").count(), 2);
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let lines = |points: &str| {
            draw(&format!(
                r#"{{"title": "", "x": "", "y": "", "lines": [{{"name": "", "points": {points}}}]}}"#
            ))
        };
        assert!(lines("[]").is_err() && lines("[[0, 1e300]]").is_err() && lines("[[1]]").is_err());
        assert!(lines("[[3, 0]]").is_ok(), "a single point");
        assert!(draw(r#"{"title": "", "x": "", "y": "", "dots": []}"#).is_err());
    }

    #[test]
    fn ticks_are_round_numbers() {
        let axis = Axis::over([0.0, 93.0].into_iter(), 0.0, 1.0).unwrap();
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let axis = Axis::over([-3.0, 4.0].into_iter(), 0.0, 1.0).unwrap();
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [-4.0, -2.0, 0.0, 2.0, 4.0]);
    }
}
