//! The rows of `growth` as a picture: the cost of one unit, as a multiple of the cost at the smallest size.

use std::fmt::Write as _;

use super::row::Row;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 50.0;
/// The highest value that fits, in multiples.
const TOP: f64 = 2.0;
/// The largest size that fits, as a power of ten.
const DECADES: f64 = 5.0;

/// What is drawn: the beginning of the names of its rows, the rest of which is the size, what it is, and its color.
const LINES: [(&str, &str, &str); 2] = [
    (
        "growth: clients ",
        "gateway per delivery, by number of clients",
        "#1f6feb",
    ),
    (
        "growth: devices ",
        "ingest and Redis per message, by number of devices",
        "#bf3989",
    ),
];

/// Draws the rows of one server as SVG. `None` if there are no rows of `growth`.
pub(crate) fn growth(rows: &[Row], system: &str) -> Option<String> {
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for value in [0.0, 0.5, 1.0, 1.5, 2.0] {
        let y = height_of(value);
        let end = WIDTH - MARGIN;
        rule(&mut picture, [MARGIN, y, end, y]);
        text(
            &mut picture,
            10.0,
            y + 4.0,
            &format!("{value:.1} ×"),
            "#57606a",
        );
    }
    for power in 0..=5 {
        let size = 10_u32.pow(power);
        let x = place_of(f64::from(size));
        rule(&mut picture, [x, MARGIN, x, HEIGHT - MARGIN]);
        text(
            &mut picture,
            x - 4.0,
            HEIGHT - 30.0,
            &size.to_string(),
            "#57606a",
        );
    }
    let mut is_empty = true;
    for (number, (prefix, title, color)) in (0_u8..).zip(LINES) {
        let points = points(rows, system, prefix);
        let Some((_, first)) = points.first().copied() else {
            continue;
        };
        is_empty = false;
        let places: Vec<String> = points
            .iter()
            .map(|(size, cost)| format!("{:.1},{:.1}", place_of(*size), height_of(cost / first)))
            .collect();
        let places = places.join(" ");
        writeln!(
            picture,
            "<polyline points=\"{places}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        )
        .ok()?;
        let y = 16.0 * (f64::from(number) + 1.0);
        text(&mut picture, MARGIN, y, title, color);
    }
    picture.push_str("</svg>\n");
    (!is_empty).then_some(picture)
}

/// Sizes and costs, the smallest size first.
fn points(rows: &[Row], system: &str, prefix: &str) -> Vec<(f64, f64)> {
    rows.iter()
        .filter(|row| row.system == system)
        .filter_map(|row| {
            let size = row.scenario.strip_prefix(prefix)?.parse().ok()?;
            Some((size, row.figure.value))
        })
        .collect()
}

fn place_of(size: f64) -> f64 {
    MARGIN + size.log10() / DECADES * (WIDTH - 2.0 * MARGIN)
}

fn height_of(multiple: f64) -> f64 {
    HEIGHT - MARGIN - multiple.min(TOP) / TOP * (HEIGHT - 2.0 * MARGIN)
}

fn rule(picture: &mut String, [x1, y1, x2, y2]: [f64; 4]) {
    let line = format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#d0d7de\"/>\n"
    );
    picture.push_str(&line);
}

fn text(picture: &mut String, x: f64, y: f64, text: &str, color: &str) {
    let line = format!("<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{color}\">{text}</text>\n");
    picture.push_str(&line);
}

#[cfg(test)]
mod tests {
    use super::super::row::Figure;
    use super::*;

    #[test]
    fn a_cost_that_doubles_ends_at_the_top() {
        let row = |scenario, value| Row::new(scenario, "ours", Figure::new("cost", value, "µs"));
        let rows = [
            row("growth: clients 1", 3.0),
            row("growth: clients 10", 6.0),
        ];
        let picture = growth(&rows, "ours").unwrap();
        let line = picture.lines().find(|line| line.starts_with("<polyline"));
        assert!(line.unwrap().contains("points=\"50.0,150.0 158.0,50.0\""));
        assert!(growth(&rows, "floor").is_none());
    }
}
