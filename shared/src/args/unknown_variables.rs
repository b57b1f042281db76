//! Variables of the environment that look like a setting and are none. A mistyped variable would otherwise have no effect in
//! silence. Pure.

use std::collections::BTreeSet;

use super::variables::VARIABLES;

/// Beginnings of names that platforms set or libraries read, and that are close to ours by chance.
const SET_BY_OTHERS: [&str; 6] = [
    "KUBERNETES_",
    "OTEL_",
    "RENDER_",
    "NPM_",
    "FLY_",
    // Where the authorities of the system are.
    "SSL_CERT_",
];

/// Set by hosting platforms. The gateway has a hidden setting of this name.
const PORT: &str = "PORT";

/// Words that somebody may put before the name of a setting.
const OUR_NAMES: [&str; 4] = ["INGEST", "GATEWAY", "SUBTRONICS", "SUBTRONIC"];

/// Words that mean nearly the same in the names of settings. The first of each line stands for the others.
const SAME_MEANING: [&[&str]; 6] = [
    &[
        "URL", "URI", "HOST", "HOSTNAME", "SERVER", "ENDPOINT", "BROKER",
    ],
    &["USERNAME", "USER", "LOGIN"],
    &["PASSWORD", "PASS", "PASSWD", "PWD"],
    &["ADDRESS", "ADDR"],
    &["ALLOWED", "ALLOW", "CORS"],
    &["LEVEL", "LVL"],
];

/// Words of a connection that belong into its URL, and the variables of these URLs.
const PARTS_OF_URLS: [&str; 10] = [
    "PORT", "USERNAME", "PASSWORD", "DB", "DATABASE", "TLS", "SSL", "SCHEME", "PROTOCOL", "PROTO",
];
const URLS: [(&str, &str); 2] = [("MQTT", "MQTT_BROKER"), ("REDIS", "REDIS_URL")];

/// Returns one sentence per name in `set` that is no setting of either service but looks like one. `own` are further names that
/// are settings.
pub(super) fn warnings(set: &[String], own: &[&str]) -> Vec<String> {
    let services = services(set);
    let is_ignored = |name: &str| {
        VARIABLES.contains(&name)
            || own.contains(&name)
            || name == PORT
            || SET_BY_OTHERS
                .iter()
                .any(|start| name.to_ascii_uppercase().starts_with(start))
            || services.iter().any(|service| is_of_service(name, service))
    };
    let mut unknown: Vec<&String> = set.iter().filter(|name| !is_ignored(name)).collect();
    unknown.sort();
    let suggested = |name: &String| {
        let suggestion = suggestion(name)?;
        Some(format!(
            "the variable {name} is no setting and has no effect: did you mean {suggestion}?"
        ))
    };
    unknown.into_iter().filter_map(suggested).collect()
}

/// Returns the setting that this unknown name is close to.
fn suggestion(name: &str) -> Option<&'static str> {
    let plain = name.to_ascii_uppercase().replace(['-', '.'], "_");
    let known = VARIABLES.iter().copied();
    if let Some(same) = known.clone().find(|known| *known == plain) {
        return Some(same);
    }
    mistyped(&plain)
        .or_else(|| same_words(&plain))
        .or_else(|| behind_our_name(&plain))
        .or_else(|| longer_or_shorter(&plain))
        .or_else(|| part_of_url(&plain))
}

/// Returns the setting whose name has been mistyped.
fn mistyped(name: &str) -> Option<&'static str> {
    let distances = VARIABLES.iter().map(|known| {
        let limit = match known.len().min(name.len()) {
            // Short words are often one letter apart and mean different things.
            0..6 => 0,
            6..12 => 1,
            12..20 => 2,
            _ => 3,
        };
        let distance = strsim::osa_distance(known, name);
        (distance, limit, *known)
    });
    let close = distances.filter(|(distance, limit, _)| distance <= limit);
    close.min().map(|(_, _, known)| known)
}

/// Returns the setting that has the same words, or words of the same meaning, in any order.
fn same_words(name: &str) -> Option<&'static str> {
    let words = words(name);
    if words.len() < 2 {
        return None;
    }
    let wanted: BTreeSet<&String> = words.iter().collect();
    let is_same = |known: &&str| self::words(known).iter().collect::<BTreeSet<_>>() == wanted;
    VARIABLES.iter().copied().find(is_same)
}

/// Returns the setting behind the name of a service, such as `GATEWAY_HTTP_PORT`.
fn behind_our_name(name: &str) -> Option<&'static str> {
    let rest = OUR_NAMES
        .iter()
        .find_map(|own| name.strip_prefix(own)?.strip_prefix('_'))?;
    let same = VARIABLES.iter().copied().find(|known| *known == rest);
    same.or_else(|| mistyped(rest)).or_else(|| same_words(rest))
}

/// Returns the setting that the name begins with, or that begins with the name and has the fewest words more. One word is not
/// enough: many programs have a variable that begins with `LOG_` or `HTTP_`.
fn longer_or_shorter(name: &str) -> Option<&'static str> {
    let words = words(name);
    let related = VARIABLES.iter().filter_map(|known| {
        let known_words = self::words(known);
        let shared = words.len().min(known_words.len());
        let is_related = shared >= 2 && words[..shared] == known_words[..shared];
        is_related.then(|| (words.len().abs_diff(known_words.len()), *known))
    });
    // The first of those that are equally far.
    related
        .min_by_key(|(more, _)| *more)
        .map(|(_, known)| known)
}

/// Returns the setting with the URL of a connection, for a name such as `REDIS_PASSWORD`.
fn part_of_url(name: &str) -> Option<&'static str> {
    let words = words(name);
    let [first, part] = words.as_slice() else {
        return None;
    };
    let is_part = PARTS_OF_URLS.contains(&part.as_str());
    let is_of = |connection: &str| is_part && normal_word(connection) == *first;
    let url = URLS.iter().find(|(connection, _)| is_of(connection));
    url.map(|(_, url)| *url)
}

/// Splits a name into its words, each in the form that stands for all of its meaning. A word that follows itself is left out.
fn words(name: &str) -> Vec<String> {
    let parts = name.split('_').filter(|part| !part.is_empty());
    let mut words: Vec<String> = parts.map(normal_word).collect();
    words.dedup();
    words
}

fn normal_word(word: &str) -> String {
    let of_group = |word: &str| {
        let group = SAME_MEANING.iter().find(|group| group.contains(&word));
        group
            .and_then(|group| group.first())
            .map(|word| (*word).to_owned())
    };
    let singular = singular(word);
    of_group(word)
        .or_else(|| of_group(&singular))
        .unwrap_or(singular)
}

fn singular(word: &str) -> String {
    if word.len() < 4 || word.ends_with("SS") {
        return word.to_owned();
    }
    match (word.strip_suffix("IES"), word.strip_suffix('S')) {
        (Some(start), _) => format!("{start}Y"),
        (None, Some(start)) => start.to_owned(),
        (None, None) => word.to_owned(),
    }
}

/// Returns the services whose addresses Kubernetes, or a link of Docker, puts into variables of the process: the `REDIS` of
/// `REDIS_SERVICE_HOST` and of `REDIS_PORT_6379_TCP`.
fn services(set: &[String]) -> Vec<&str> {
    let found = set.iter().filter_map(|name| {
        let of_kubernetes = name.strip_suffix("_SERVICE_HOST");
        of_kubernetes.or_else(|| {
            let (service, port) = name.split_once("_PORT_")?;
            let (number, protocol) = port.split_once('_')?;
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let protocol = protocol.split('_').next()?;
            (is_number && ["TCP", "UDP", "SCTP"].contains(&protocol)).then_some(service)
        })
    });
    found.collect()
}

/// Whether the name is one of a variable with the address of this service.
fn is_of_service(name: &str, service: &str) -> bool {
    let Some(rest) = name.strip_prefix(service) else {
        return false;
    };
    rest == "_PORT"
        || rest == "_NAME"
        || ["_PORT_", "_SERVICE_", "_ENV_"]
            .iter()
            .any(|start| rest.starts_with(start))
}

#[cfg(test)]
mod tests;
