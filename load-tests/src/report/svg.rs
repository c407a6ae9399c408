//! SVG, as much of it as plots need.
use std::fmt::Write;

/// Colours, light and dark. The lines' can be told apart by people who see fewer colours (Okabe and Ito).
const STYLE: &str = "
:root { --paper: #ffffff; --ink: #1f2328; --faint: #d1d9e0;
  --l0: #0072b2; --l1: #d55e00; --l2: #009e73; --l3: #cc79a7; --l4: #8a6d00; --l5: #56b4e9; }
@media (prefers-color-scheme: dark) {
:root { --paper: #0d1117; --ink: #e6edf3; --faint: #3d444d;
  --l0: #56b4e9; --l1: #ff8c42; --l2: #2fcf9f; --l3: #e3a1c6; --l4: #f0e442; --l5: #9ecbff; } }
text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.title { font-size: 17px; font-weight: 600; }
.paper { fill: var(--paper); }
.rule { stroke: var(--faint); stroke-width: 1; }
.bar { fill: var(--l0); }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
";

/// Where a text has its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture in the making.
#[derive(Debug)]
pub(super) struct Drawing {
    text: String,
}

impl Drawing {
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let mut drawing = Self { text: String::new() };
        drawing.push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>",
            escape(title)
        ));
        drawing
    }

    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        ));
    }

    /// Read from the bottom to the top, its middle at that place.
    pub(super) fn text_upwards(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.push(format_args!(
            "<text class=\"{class}\" transform=\"translate({x:.1} {y:.1}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            escape(text)
        ));
    }

    /// A faint line.
    pub(super) fn rule(&mut self, x1: f64, y1: f64, x2: f64, y2: f64) {
        self.push(format_args!(
            "<line class=\"rule\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    pub(super) fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64) {
        self.push(format_args!(
            "<rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    /// A line in the colour of that number.
    pub(super) fn line(&mut self, colour: usize, places: &[[f64; 2]]) {
        let places: Vec<String> = places.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!(
            "<polyline style=\"stroke: var(--l{colour})\" points=\"{}\"/>",
            places.join(" ")
        ));
    }

    pub(super) fn finish(mut self) -> String {
        self.push(format_args!("</svg>"));
        self.text
    }

    fn push(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes everything");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
