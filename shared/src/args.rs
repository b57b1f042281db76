//! Parsing of the command line and its environment, and parsers for single values.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use clap::{Command, Parser};

use crate::decimal::Decimal;
use crate::secret::Secret;

mod command_line;
mod flag;
mod listing;
mod problem_text;
mod unknown_variables;
mod variables;

pub use command_line::CommandLine;
pub use listing::SettingDisplay;
pub use variables::VARIABLES;

/// The reason why a service does not start: help was requested, or the settings are wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The text of `--help` or `--version`. Nothing is wrong.
    Help(String),
    /// One sentence per problem.
    Problems(Vec<String>),
}

impl Usage {
    /// Returns the exit code of the process.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Help(_) => 0,
            Self::Problems(_) => 2,
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help(text) => f.write_str(text),
            Self::Problems(problems) => f.write_str(&problems.join("\n")),
        }
    }
}

impl std::error::Error for Usage {}

/// Parses arguments (the first is the program's name) and the environment. A variable set to the empty string is treated
/// as unset: deployment tools cannot always leave one out.
///
/// # Errors
/// Help was requested, or a value is missing or wrong.
pub fn parse<C, I>(args: I) -> Result<C, Usage>
where
    C: Parser,
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let line = CommandLine::parse(C::command(), args, &[])?;
    let config = line.config()?;
    match line.problems(Vec::new()) {
        problems if problems.is_empty() => Ok(config),
        problems => Err(Usage::Problems(problems)),
    }
}

/// Parses a duration, a whole number and its unit: `500ms`, `90s`, `3m`, `24h` or `35d`.
///
/// # Errors
/// No unit, an unknown unit, no number, or more milliseconds than an `i64` holds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("expected a whole number and a unit, such as 500ms, 90s, 3m, 24h".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a number before the unit")?;
    let millis = number
        .checked_mul(factor)
        .filter(|millis| i64::try_from(*millis).is_ok());
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "this time is too long".into())
}

/// Parses a number of bytes, as Redis writes it: a whole number, alone or with one of the units `kb`, `mb` and `gb` of 1024.
///
/// # Errors
/// No number, an unknown unit, or more than an `i64` holds.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        _ => return Err("expected a whole number of bytes, such as 500mb or 2gb".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a whole number of bytes, such as 500mb or 2gb")?;
    let bytes = number.checked_mul(factor);
    bytes
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| "this number is too large".into())
}

/// Parses a UTC offset, `+05:30`, `-03:00` or `Z`. Returns seconds east of UTC.
///
/// # Errors
/// Anything else, or more than 18 hours.
pub fn utc_offset(text: &str) -> Result<i32, String> {
    let wrong = || "expected an offset such as +05:30, -03:00 or Z".to_owned();
    let text = text.trim();
    if text == "Z" {
        return Ok(0);
    }
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(wrong()),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(wrong)?;
    let two_digits = |part: &str| -> Result<i32, String> {
        let readable = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if readable {
            part.parse().map_err(|_| wrong())
        } else {
            Err(wrong())
        }
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let seconds = hours * 3600 + minutes * 60;
    if minutes > 59 || seconds > 18 * 3600 {
        return Err(wrong());
    }
    Ok(sign * seconds)
}

/// Parses a percentage from 0 to 100: `2`, `0.5` or `2%`.
///
/// # Errors
/// Not a number, or out of range.
pub fn percent(text: &str) -> Result<Decimal, String> {
    let number = text.trim().trim_end_matches('%');
    let percent: Decimal = number
        .parse()
        .map_err(|_| "expected percent, such as 2 or 0.5")?;
    if percent < Decimal::ZERO || percent > Decimal::from_int(100) {
        return Err("expected percent from 0 to 100".into());
    }
    Ok(percent)
}

/// Units by the numeric code that detectors send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitCodes(Vec<(String, String)>);

impl UnitCodes {
    /// Returns the unit of a code, given as decimal text.
    #[must_use]
    pub fn lookup(&self, code: &str) -> Option<&str> {
        let mut codes = self.0.iter();
        codes
            .find(|(known, _)| known == code)
            .map(|(_, unit)| unit.as_str())
    }
}

impl fmt::Display for UnitCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(code, unit)| format!("{code}={unit}"))
            .collect();
        f.write_str(&pairs.join(","))
    }
}

/// Parses whole numbers and their units: `1=ppm,2=%LEL`.
///
/// # Errors
/// A pair without `=`, a code that is not a whole number or occurs twice, an empty unit.
pub fn unit_codes(text: &str) -> Result<UnitCodes, String> {
    let mut codes: Vec<(String, String)> = Vec::new();
    for pair in text.split(',') {
        let (code, unit) = pair
            .split_once('=')
            .ok_or_else(|| format!("`{pair}` is not a pair such as 1=ppm"))?;
        let (code, unit) = (code.trim(), unit.trim());
        let number: i64 = code
            .parse()
            .map_err(|_| format!("code `{code}` is not a whole number"))?;
        if unit.is_empty() {
            return Err(format!("code `{code}` has no unit"));
        }
        let code = number.to_string();
        if codes.iter().any(|(known, _)| *known == code) {
            return Err(format!("code `{code}` occurs twice"));
        }
        codes.push((code, unit.to_owned()));
    }
    Ok(UnitCodes(codes))
}

/// Returns a secret that is given directly or as a file. From a file, the first line is taken without its line ending. `flag` names
/// the secret in error messages.
///
/// # Errors
/// Both are given, the file cannot be read, its first line is empty, or the value has a line break other than at its end.
pub fn secret_or_file(
    flag: &str,
    secret: Option<Secret<String>>,
    file: Option<&std::path::Path>,
) -> Result<Option<Secret<String>>, String> {
    let Some(path) = file else {
        return secret
            .map(|secret| one_line(flag, secret.expose()))
            .transpose();
    };
    if secret.is_some() {
        return Err(format!("{flag} and {flag}-file are both given: choose one"));
    }
    let shown_path = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|err| format!("{flag}-file: cannot read `{shown_path}`: {err}"))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => one_line(&format!("{flag}-file"), line).map(Some),
        _ => Err(format!(
            "{flag}-file: the first line of `{shown_path}` is empty"
        )),
    }
}

/// Returns a user name or password without the line breaks at its end, which editors and secret stores add.
fn one_line(flag: &str, text: &str) -> Result<Secret<String>, String> {
    let line = text.trim_end_matches(['\r', '\n']);
    if line.contains(['\r', '\n']) {
        return Err(format!("{flag}: has a line break inside"));
    }
    if line.is_empty() && !text.is_empty() {
        return Err(format!("{flag}: holds nothing but a line break"));
    }
    Ok(Secret::new(line.to_owned()))
}

/// Compares an `.env.example` with the settings of a service and returns one sentence per difference: a variable that is
/// missing on either side (hidden settings excepted), or a value that is not the setting's default. Only lines below the
/// headings `# == both` and `# == <service>` count. A setting may be commented out there.
#[must_use]
pub fn compare_example(example: &str, service: &str, command: &Command) -> Vec<String> {
    let mut in_section = false;
    let mut example_lines: Vec<(&str, &str)> = Vec::new();
    for line in example.lines() {
        if let Some(heading) = line.strip_prefix("# == ") {
            in_section = ["both", service].contains(&heading.trim());
        }
        let setting = line.trim_start_matches('#').split_once('=');
        if let Some((name, value)) = setting
            && in_section
            && !name.is_empty()
            && name.bytes().all(is_variable_byte)
        {
            example_lines.push((name, value));
        }
    }
    let mut differences = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(name) = arg.get_env().and_then(|name| name.to_str()) else {
            continue;
        };
        let index = example_lines.iter().position(|line| line.0 == name);
        let Some((_, value)) = index.map(|index| example_lines.swap_remove(index)) else {
            differences.push(format!(
                "{name} is a setting that the example does not have"
            ));
            continue;
        };
        let default = arg
            .get_default_values()
            .first()
            .and_then(|value| value.to_str());
        if default.is_some_and(|default| default != value) {
            differences.push(format!("{name}={value} in the example is not the default"));
        }
    }
    let unknown = example_lines
        .iter()
        .map(|(name, _)| format!("{name} is in the example, but is not a setting"));
    differences.extend(unknown);
    differences
}

const fn is_variable_byte(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'
}

#[cfg(test)]
mod tests;
