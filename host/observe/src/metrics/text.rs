//! The text format of Prometheus, version 0.0.4: families of samples, each announced before its samples.
//!
//! It does not know what is counted.

use std::fmt::Write;

/// Media type of the format.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family: all samples of this name follow, and no others.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// Writes a family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Writes a histogram: the count of each bucket, and the count `beyond` the last bound.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        buckets: impl IntoIterator<Item = (f64, u64)>,
        beyond: u64,
        sum: f64,
    ) {
        let bucket = format!("{name}_bucket");
        let mut all = 0;
        for (bound, count) in buckets {
            all += count;
            self.sample(&bucket, &[labels, &[("le", &bound.to_string())]].concat(), all as f64);
        }
        all += beyond;
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), all as f64);
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, all as f64);
    }

    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut text = Text::default();
        text.family("a", Kind::Gauge, "two\nlines");
        text.sample("a", &[("x", "\"} 1\na 2\\"), ("y", "")], 0.25);
        assert_eq!(text.finish(), "# HELP a two\\nlines\n# TYPE a gauge\na{x=\"\\\"} 1\\na 2\\\\\",y=\"\"} 0.25\n");
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut text = Text::default();
        text.histogram("t", &[], [(0.5, 1), (1.0, 2)], 3, 9.5);
        assert_eq!(
            text.finish(),
            "t_bucket{le=\"0.5\"} 1\nt_bucket{le=\"1\"} 3\nt_bucket{le=\"+Inf\"} 6\nt_sum 9.5\nt_count 6\n"
        );
    }
}
