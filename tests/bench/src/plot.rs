//! A chart as SVG: axes, a line with points for each series, a legend. It knows nothing about the data.

use crate::section::{Chart, Series};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// Colours that people with colour blindness can tell apart.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#7f5f00"];

/// A range of figures, and the pixels that show it.
struct Axis {
    least: f64,
    most: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, log: bool, from: f64, to: f64) -> Self {
        let finite = values.filter(|it| it.is_finite() && (!log || *it > 0.0));
        let (least, most) = (finite.clone().fold(f64::INFINITY, f64::min), finite.fold(f64::NEG_INFINITY, f64::max));
        let (least, most) = if least > most { (1.0, 10.0) } else { (least, most) };
        if log {
            let (least, most) = (least.log10().floor(), most.log10().ceil());
            return Self { least, most: if most > least { most } else { least + 1.0 }, log, from, to };
        }
        let least = least.min(0.0);
        Self { least, most: if most > least { most * 1.05 } else { least + 1.0 }, log, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        self.from + (value - self.least) / (self.most - self.least) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            return (self.least as i32..=self.most as i32).map(|power| 10f64.powi(power)).collect();
        }
        let rough = (self.most - self.least) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * power).into_iter().find(|it| *it >= rough).unwrap_or(rough);
        (0..).map(|tick| self.least + f64::from(tick) * step).take_while(|it| *it <= self.most).collect()
    }
}

pub fn svg(chart: &Chart) -> String {
    let Chart { title, x, y, series, .. } = chart;
    let points = || series.iter().flat_map(|it| &it.points);
    let across = Axis::new(points().map(|it| it.0), chart.log_x, LEFT, WIDTH - RIGHT);
    let up = Axis::new(points().map(|it| it.1), chart.log_y, HEIGHT - BOTTOM, TOP);
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<title>{title}</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{title}</text>
"##,
        title = escaped(title)
    );
    let mut put = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for tick in across.ticks() {
        let at = across.place(tick);
        put(format!(r##"<path d="M{at:.1} {TOP}V{bottom}" stroke="#ddd"/>"##));
        put(format!(r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, bottom + 18.0, figure(tick)));
    }
    for tick in up.ticks() {
        let at = up.place(tick);
        put(format!(r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#ddd"/>"##));
        put(format!(r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#, LEFT - 6.0, at + 4.0, figure(tick)));
    }
    put(format!(r##"<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#333"/>"##));
    let middle = (LEFT + right) / 2.0;
    put(format!(r#"<text x="{middle}" y="{:.1}" text-anchor="middle">{}</text>"#, HEIGHT - 14.0, escaped(x)));
    let middle = f64::midpoint(TOP, bottom);
    let turned = format!("rotate(-90 18 {middle})");
    put(format!(r#"<text x="18" y="{middle}" text-anchor="middle" transform="{turned}">{}</text>"#, escaped(y)));
    for (number, Series { name, points }) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let shown = points.iter().filter(|(x, y)| shows(chart.log_x, *x) && shows(chart.log_y, *y));
        let mut line = String::new();
        let mut dots = String::new();
        for (x, y) in shown {
            let (x, y) = (across.place(*x), up.place(*y));
            let _ = write!(line, "{x:.1},{y:.1} ");
            let _ = write!(dots, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#);
        }
        let line = line.trim_end();
        put(format!(r#"<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}"#));
        let (x, y) = (right + 14.0, TOP + 10.0 + 20.0 * number as f64);
        put(format!(r#"<path d="M{x} {y}h18" stroke="{colour}" stroke-width="2"/>"#));
        put(format!(r#"<text x="{}" y="{}">{}</text>"#, x + 24.0, y + 4.0, escaped(name)));
    }
    out + "</svg>\n"
}

fn shows(log: bool, value: f64) -> bool {
    value.is_finite() && (!log || value > 0.0)
}

/// Formats a tick in few characters.
fn figure(value: f64) -> String {
    let (value, unit) = match value.abs() {
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proportional_growth_is_a_straight_line() {
        let mut chart = Chart::by_tens("it", "a < b", "x", "y");
        [(1.0, 10.0), (10.0, 100.0), (100.0, 1000.0)].iter().for_each(|(x, y)| chart.add("one", *x, *y));
        let svg = svg(&chart);
        assert!(svg.contains(r#"points="80.0,364.0 320.0,204.0 560.0,44.0""#), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains(">100</text>") && svg.contains(">1k</text>"));
    }

    #[test]
    fn empty_chart_is_valid() {
        assert!(svg(&Chart::by_tens("it", "nothing", "x", "y")).ends_with("</svg>\n"));
    }
}
