//! Where a device is, as lists of devices show it. Pure.

use shared::decimal::Decimal;
use shared::reading::Coordinate;

/// Renders `<lat>, <long>` as received. Empty if unknown, out of range or `0, 0`: the map draws every text that it can
/// parse.
pub(crate) fn location(latitude: &Coordinate, longitude: &Coordinate) -> String {
    let (lat, long) = (text_of(latitude), text_of(longitude));
    let within = |text: &str, bound: i32| {
        let degrees: Decimal = text.parse().ok()?;
        let bound = Decimal::from_int(bound);
        (degrees <= bound && Decimal::ZERO - degrees <= bound).then_some(degrees)
    };
    match (within(&lat, 90), within(&long, 180)) {
        (Some(north), Some(east)) if north != Decimal::ZERO || east != Decimal::ZERO => {
            format!("{lat}, {long}")
        }
        _ => String::new(),
    }
}

fn text_of(coordinate: &Coordinate) -> String {
    match coordinate {
        Coordinate::Number(number) => number.to_string(),
        Coordinate::Text(text) => text.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests;
