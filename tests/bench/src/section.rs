//! Results of a measurement, in a form that a page can show without knowing what was measured.

use std::{collections::BTreeMap, time::Duration};

#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Section {
    pub title: String,
    /// Description of the measurement, in sentences.
    pub how: String,
    pub charts: Vec<Chart>,
    /// Results that are not a curve.
    pub notes: Vec<String>,
    /// Single figures for the table of goals, by name.
    pub facts: BTreeMap<String, f64>,
}

/// Figures by something that grows.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Chart {
    /// File name without an extension.
    pub file: String,
    pub title: String,
    pub x: String,
    pub y: String,
    /// Logarithmic, rather than linear.
    pub log_x: bool,
    pub log_y: bool,
    pub series: Vec<Series>,
}

#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

impl Section {
    pub fn new(title: &str, how: &str) -> Self {
        Self { title: title.into(), how: how.into(), ..Self::default() }
    }

    pub fn note(&mut self, note: String) {
        eprintln!("  {note}");
        self.notes.push(note);
    }

    pub fn fact(&mut self, name: &str, value: f64) {
        self.facts.insert(name.into(), value);
    }
}

impl Chart {
    /// Makes a chart with logarithmic axes, on which proportional growth is a straight line.
    pub fn by_tens(file: &str, title: &str, x: &str, y: &str) -> Self {
        let [file, title, x, y] = [file, title, x, y].map(str::to_owned);
        Self { file, title, x, y, log_x: true, log_y: true, series: Vec::new() }
    }

    /// Adds one point to a series, which begins with its first point.
    pub fn add(&mut self, series: &str, x: f64, y: f64) {
        match self.series.iter_mut().find(|it| it.name == series) {
            Some(it) => it.points.push((x, y)),
            None => self.series.push(Series { name: series.into(), points: vec![(x, y)] }),
        }
    }
}

/// Returns a quantile of the sorted times, in milliseconds: 0.5 is the median.
pub fn part(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let index = (times.len() as f64 * part) as usize;
    let at = times.get(index.min(times.len().saturating_sub(1)));
    at.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
