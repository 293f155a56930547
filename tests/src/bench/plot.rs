//! What was measured as a picture beside the JSON: horizontal bars, vmm's beside those of its peers, half of what was measured
//! between the whiskers.

use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figures::Summary;
use crate::files::{During, FileError};

const WIDTH: u32 = 960;
/// Of a bar, with what is between it and the next.
const PITCH: u32 = 24;
/// Of titles and axis.
const MARGIN: u32 = 90;
/// Left of the bars, for their names.
const NAMES: u32 = 420;
const VMM: RGBColor = RGBColor(31, 119, 180);
const PEER: RGBColor = RGBColor(170, 170, 170);

/// Something that was measured, as a picture.
pub(super) trait Plotted {
    /// Its bars.
    fn plot(&self) -> Plot;
}

/// Bars on one axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plot {
    /// What the axis shows, with its unit.
    pub(super) axis: &'static str,
    pub(super) bars: Vec<Bar>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub(super) name: String,
    /// Whether it is vmm's.
    pub(super) own: bool,
    pub(super) length: f64,
    /// The quartiles.
    pub(super) whiskers: [f64; 2],
}

impl Bar {
    /// A bar of what was `measured`, in units of `unit`; none if nothing was.
    pub(super) fn new(name: String, own: bool, measured: Option<Summary>, unit: f64) -> Option<Bar> {
        let Summary { median, quartiles, .. } = measured?;
        Some(Bar { name, own, length: median / unit, whiskers: quartiles.map(|it| it / unit) })
    }
}

/// Writes the picture to `path`, unless there is no bar.
pub(super) fn write(path: &Path, title: &str, plot: &Plot) -> Result<(), FileError> {
    if plot.bars.is_empty() {
        return Ok(());
    }
    let svg = svg(title, plot).map_err(std::io::Error::other).during("draw", path)?;
    fs::write(path, svg).during("write", path)
}

/// The picture. The first bar is at the top.
fn svg(title: &str, plot: &Plot) -> Result<String, String> {
    let mut svg = String::new();
    let height = MARGIN + PITCH * u32::try_from(plot.bars.len()).map_err(|error| error.to_string())?;
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw(&area, title, plot).map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    plot: &Plot,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let bars = plot.bars.len() as f64;
    let ends = plot.bars.iter().flat_map(|bar| [bar.length, bar.whiskers[1]]);
    let longest = ends.fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin_right(20)
        .x_label_area_size(44)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..longest, 0.0..bars)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().x_desc(plot.axis).draw()?;
    let plane = chart.plotting_area();
    let right = TextStyle::from(("sans-serif", 13)).pos(Pos::new(HPos::Right, VPos::Center));
    for (index, bar) in plot.bars.iter().enumerate() {
        let middle = bars - 0.5 - index as f64;
        let [low, high] = bar.whiskers;
        let colour = if bar.own { VMM } else { PEER };
        plane.draw(&Rectangle::new([(0.0, middle - 0.35), (bar.length, middle + 0.35)], colour.filled()))?;
        plane.draw(&PathElement::new([(low, middle), (high, middle)], BLACK))?;
        for end in bar.whiskers {
            plane.draw(&PathElement::new([(end, middle - 0.2), (end, middle + 0.2)], BLACK))?;
        }
        let name = EmptyElement::at((0.0, middle)) + Text::new(bar.name.clone(), (-8, 0), right.clone());
        plane.draw(&name)?;
    }
    area.present()
}

#[cfg(test)]
#[path = "plot_test.rs"]
mod tests;
