//! All rows as one table in Markdown, with the ratio to each system that ran in the same scenario.

use super::row::{Figure, Row};
use crate::systems::{FLOOR, SCALED, SOCKET_IO, U_WEB_SOCKETS};

const REFERENCES: [&str; 4] = [FLOOR, U_WEB_SOCKETS, SOCKET_IO, SCALED];

const HEAD: &str = "\
| scenario | server | figure | range | × floor | × uWebSockets | × Socket.IO | × Redis adapter | p50 / p99 / max ms | lost / twice / out of order | more |
|---|---|---|---|---|---|---|---|---|---|---|";

/// Writes the table.
pub(crate) fn render(rows: &[Row]) -> String {
    let lines = rows.iter().map(|row| line(row, rows));
    std::iter::once(HEAD.to_owned())
        .chain(lines)
        .collect::<Vec<_>>()
        .join("\n")
}

fn line(row: &Row, rows: &[Row]) -> String {
    let ratios = REFERENCES.map(|reference| {
        let other = rows.iter().find(|other| {
            other.system == reference && other.scenario == row.scenario && row.system != reference
        });
        match other {
            Some(other) if other.figure.value > 0.0 => {
                format!("{:.2}", row.figure.value / other.figure.value)
            }
            _ => String::new(),
        }
    });
    let [least, most] = row.range;
    let range = if (most - least).abs() < f64::EPSILON {
        String::new()
    } else {
        format!("{}–{}", number(least), number(most))
    };
    let latency = row.latency.map_or_else(String::new, |latency| {
        let times = [latency.p50, latency.p99, latency.max];
        times.map(number).join(" / ")
    });
    let sums = row.sums.map_or_else(String::new, |sums| {
        format!("{} / {} / {}", sums.lost, sums.duplicates, sums.reordered)
    });
    let more: Vec<String> = row.more.iter().map(figure).collect();
    format!(
        "| {} | {} | {} | {range} | {} | {latency} | {sums} | {} |",
        row.scenario,
        row.system,
        figure(&row.figure),
        ratios.join(" | "),
        more.join("; ")
    )
}

fn figure(figure: &Figure) -> String {
    format!("{} {} {}", figure.name, number(figure.value), figure.unit)
        .trim()
        .to_owned()
}

/// Three significant digits, or all in front of the point.
fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_compared_with_those_of_its_scenario() {
        let row =
            |scenario, system, value| Row::new(scenario, system, Figure::new("", value, "µs"));
        let rows = [
            row("fan", FLOOR, 4.0),
            row("dash", FLOOR, 1.0),
            row("fan", "ours", 8.0),
        ];
        let table = render(&rows);
        let last = table.lines().last().unwrap();
        assert_eq!(last, "| fan | ours | 8.00 µs |  | 2.00 |  |  |  |  |  |  |");
    }
}
