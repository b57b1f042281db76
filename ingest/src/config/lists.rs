//! Lists of words that would hide dangers. Pure.

use shared::decimal::Decimal;
use shared::settings::MessageTypes;

use super::Config;
use crate::payload::{DEFAULT_MESSAGE_TYPE, NormalWords};

/// Words with which detectors say that a fault or an alarm is set.
const SET_WORDS: [&str; 21] = [
    "ON", "YES", "TRUE", "SET", "ACTIVE", "HIGH", "LOW", "ALARM", "ALARM_1", "A1", "A2", "A3",
    "ALERT", "WARNING", "FAULT", "FAULTY", "FAIL", "FAILED", "FAILURE", "ERR", "ERROR",
];

/// Returns a warning for each word that hides dangers.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let words = config.normal_words.split(',').map(str::trim);
    let normal = words.filter(|word| means_set(word)).map(|word| {
        format!(
            "--normal-words has `{word}`: a fault flag, an LED or `Alarm Status` with this text is never an alarm"
        )
    });
    let ordinary = [
        (
            "--maintenance-message-types",
            &config.maintenance_message_types,
            "no reading can end an alarm",
        ),
        (
            "--alive-message-types",
            &config.alive_message_types,
            "a message without a reading is no fault",
        ),
    ];
    let has_ordinary = |list: &str| MessageTypes::new(list).contains(DEFAULT_MESSAGE_TYPE);
    let ordinary = ordinary
        .into_iter()
        .filter(|(_, list, _)| has_ordinary(list))
        .map(|(flag, _, effect)| {
            format!("{flag} has `{DEFAULT_MESSAGE_TYPE}`, the type of ordinary readings: {effect}")
        });
    normal.chain(ordinary).collect()
}

/// Whether a word certainly means that something is set.
fn means_set(word: &str) -> bool {
    let one_word = NormalWords::new(word);
    let is_number = || {
        let number = word.parse::<Decimal>();
        number.is_ok_and(|number| number != Decimal::ZERO)
    };
    SET_WORDS.iter().any(|set| one_word.contains(set)) || is_number()
}
