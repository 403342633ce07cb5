//! A strict parser of the Prometheus format: any violation of the format fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// Samples by name and labels, as in `name{label="value"}`.
#[derive(Debug)]
pub struct Exposition {
    samples: BTreeMap<String, f64>,
    kinds: BTreeMap<String, String>,
}

impl Exposition {
    #[track_caller]
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut read = Self { samples: BTreeMap::new(), kinds: BTreeMap::new() };
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, _) = help.split_once(' ').expect("a help has a text");
                assert!(helped.insert(name.to_owned()), "{name} is there twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type has a name");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helped.contains(name), "{name} has no help");
                assert!(kind != "counter" || name.ends_with("_total"), "{name} is a counter");
                family = name.to_owned();
                assert!(read.kinds.insert(family.clone(), kind.to_owned()).is_none(), "{name} is there twice");
            } else {
                read.sample(line, &family);
            }
        }
        read.check_histograms();
        read
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let name = series.split('{').next().unwrap_or_default();
        let form = |name: &str| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
        };
        assert!(form(name), "{line}");
        let of_family = match self.kinds.get(family).map(String::as_str) {
            Some("histogram") => ["_bucket", "_sum", "_count"].iter().any(|it| name == format!("{family}{it}")),
            _ => name == family,
        };
        assert!(of_family, "{name} is not of the family {family}");
        if let Some(labels) = series.strip_prefix(name).filter(|it| !it.is_empty()) {
            let labels = labels.strip_prefix('{').and_then(|it| it.strip_suffix("\"}")).expect(line);
            for label in labels.split("\",") {
                let (label, value) = label.split_once("=\"").expect(line);
                assert!(form(label) && !value.contains(['"', '\n']), "{line}");
            }
        }
        let number: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(number.is_finite() && number >= 0.0, "{line}");
        assert!(self.samples.insert(series.to_owned(), number).is_none(), "{series} is there twice");
    }

    /// Buckets only grow, and the last one has the whole count.
    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let counts = self.samples.iter().filter(|(series, _)| series.starts_with(&format!("{name}_count")));
            for (series, count) in counts {
                let labels = series.strip_prefix(&format!("{name}_count")).unwrap_or_default();
                let labels = labels.trim_matches(['{', '}']);
                let labels = if labels.is_empty() { String::new() } else { format!("{labels},") };
                let prefix = format!("{name}_bucket{{{labels}le=\"");
                let buckets = self.samples.iter().filter_map(|(series, count)| {
                    let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                    let bound: f64 = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound") };
                    Some((bound, *count))
                });
                let mut buckets: Vec<_> = buckets.collect();
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(
                    buckets.len() > 1 && buckets.is_sorted_by(|one, other| one.1 <= other.1),
                    "{series}: {buckets:?}"
                );
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
            }
        }
    }

    /// Returns the value of a series, written as `name` or `name{label="value"}`.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("there is no {series} in {:#?}", self.samples))
    }

    /// Returns all series with this prefix.
    pub fn series(&self, beginning: &str) -> Vec<&str> {
        self.samples.keys().map(String::as_str).filter(|series| series.starts_with(beginning)).collect()
    }
}
