//! Why a token is refused, for operators. Clients get less: whoever tries tokens out should learn nothing. Pure.
//!
//! It decides nothing. It looks at what the token says without its signature, and names everything that [`super::Access`] does not accept.

use jsonwebtoken::{Algorithm, Header};
use serde_json::{Map, Value};
use shared::clock::Time;
use shared::visible_text::clean;

use super::claims::{ClaimRules, exact, time};
use super::keys::{self, Key, MAX_TOKEN, RSA_BITS};
use super::permission::{DevicePattern, MAX_PATTERNS, Verb};

/// Returns why this token is refused with these keys, apart from its claims, one sentence each.
pub(super) fn key_problems(
    token: &str,
    header: &Header,
    keys: &[Key],
    rules: &ClaimRules,
) -> Vec<String> {
    let mut problems = length_problem(token).into_iter().collect::<Vec<_>>();
    if keys::has_critical_extensions(header) {
        problems.push("its head has `crit`, of which nothing is understood".to_owned());
    }
    let algorithm = header.alg;
    let known: Vec<&Key> = keys
        .iter()
        .filter(|key| key.algorithm == algorithm)
        .collect();
    let candidates = known
        .iter()
        .filter(|key| key.may_have_signed(algorithm, header.kid.as_deref()));
    let candidates = candidates.count();
    if known.is_empty() {
        let mut others: Vec<Algorithm> = keys.iter().map(|key| key.algorithm).collect();
        others.dedup();
        problems.push(format!(
            "it is signed with {algorithm:?}, and the keys are for {others:?}"
        ));
    } else if candidates == 0 {
        let kid = clean(header.kid.as_deref().unwrap_or_default());
        problems.push(format!(
            "no key for {algorithm:?} has the name (`kid`) `{kid}`"
        ));
    } else if let Err(error) = keys::verify::<Value>(token, keys.iter(), rules)
        && error.wrong_signatures as usize == candidates
    {
        problems.push(format!(
            "none of the keys for {algorithm:?} ({candidates}) has signed it, or it was changed since"
        ));
    }
    problems
}

/// Returns what is wrong with the length of a token.
pub(crate) fn length_problem(token: &str) -> Option<String> {
    let length = token.len();
    (length > MAX_TOKEN).then(|| format!("it has {length} bytes, and may have {MAX_TOKEN}"))
}

/// Returns what is wrong with the length of the RSA key that has signed a token: a signature is as long as its key.
pub(crate) fn rsa_problem(token: &str, algorithm: Algorithm) -> Option<String> {
    let signature = token.rsplit('.').next()?;
    // Six bits per character, and whole bytes.
    let bits = signature.len() * 6 / 8 * 8;
    let fits = algorithm != Algorithm::RS256 || RSA_BITS.contains(&bits);
    (!fits).then(|| {
        let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
        format!("an RSA key has {least} to {most} bits, and the key of this one has {bits}")
    })
}

/// Returns everything in these claims for which a gateway with these rules refuses the token, one sentence each.
pub(crate) fn claim_problems(claims: &Value, rules: &ClaimRules, now: Time) -> Vec<String> {
    let Value::Object(claims) = claims else {
        return vec!["its claims are no object".to_owned()];
    };
    let mut problems = Vec::new();
    for (claim, expected) in [("iss", &rules.issuer), ("aud", &rules.audience)] {
        if !has(claims.get(claim), expected) {
            let found = shown(claims.get(claim));
            problems.push(format!("`{claim}` is {found}, expected `{expected}`"));
        }
    }
    problems.extend(time_problems(claims, rules, now));
    let is_exact = |claim| claims.get(claim).and_then(Value::as_str).and_then(exact);
    if is_exact("sub").is_none() {
        problems.push(format!("`sub` is {}: {EXACT}", shown(claims.get("sub"))));
    }
    if is_given(claims, "jti") && is_exact("jti").is_none() {
        problems.push(format!("`jti` is {}: {EXACT}", shown(claims.get("jti"))));
    }
    if is_given(claims, "name") && !claims["name"].is_string() {
        problems.push("`name` is no text".to_owned());
    }
    problems.extend(permission_problems(claims));
    problems
}

/// Returns why a token with these claims allows nothing although it is accepted, one sentence each.
pub(crate) fn claim_notes(claims: &Value) -> Vec<String> {
    let is_empty = |claim: &str| claims[claim].as_array().is_none_or(Vec::is_empty);
    let mut notes = Vec::new();
    for claim in ["sites", "zones"] {
        if !claims[claim].is_null() {
            notes.push(format!(
                "`{claim}` limits it to some, and devices do not have any: it allows no device"
            ));
        }
    }
    for claim in ["devices", "verbs"] {
        if is_empty(claim) {
            notes.push(format!("`{claim}` is missing or empty: it allows nothing"));
        }
    }
    notes
}

const EXACT: &str = "expected 1 to 128 characters that can be seen, without blanks around them";

fn time_problems(claims: &Map<String, Value>, rules: &ClaimRules, now: Time) -> Vec<String> {
    let read = |claim| claims.get(claim).and_then(Value::as_f64).and_then(time);
    let leeway = rules.leeway;
    let mut problems = Vec::new();
    match read("exp") {
        None => problems.push(format!(
            "`exp` is {}: expected seconds since 1970",
            shown(claims.get("exp"))
        )),
        Some(expires) if expires + leeway <= now => {
            problems.push(format!("it has expired at {}", expires.to_iso()));
        }
        Some(_) => {}
    }
    if is_given(claims, "nbf") {
        match read("nbf") {
            None => problems.push("`nbf` is no time in seconds since 1970".to_owned()),
            Some(begins) if now + leeway < begins => {
                problems.push(format!("it is not valid before {}", begins.to_iso()));
            }
            Some(_) => {}
        }
    }
    problems
}

fn permission_problems(claims: &Map<String, Value>) -> Vec<String> {
    let mut problems = Vec::new();
    let is_limited = is_given(claims, "sites") || is_given(claims, "zones");
    if let Some(devices) = claims.get("devices") {
        let is_pattern = |text: &Value| {
            let text = text.as_str();
            text.is_some_and(|text| is_limited || DevicePattern::parse(text).is_some())
        };
        let is_list = devices
            .as_array()
            .is_some_and(|all| all.len() <= MAX_PATTERNS && all.iter().all(is_pattern));
        if !is_list {
            problems.push(format!(
                "`devices` is no list of up to {MAX_PATTERNS} ids or patterns of 1 to 128 bytes"
            ));
        }
    }
    if let Some(verbs) = claims.get("verbs")
        && serde_json::from_value::<Vec<Verb>>(verbs.clone()).is_err()
    {
        problems.push("`verbs` is no list of read, ack, operate and admin".to_owned());
    }
    for claim in ["sites", "zones"] {
        let is_list = |value: &Value| serde_json::from_value::<Vec<String>>(value.clone()).is_ok();
        if is_given(claims, claim) && !is_list(&claims[claim]) {
            problems.push(format!("`{claim}` is no list of texts"));
        }
    }
    problems
}

/// Whether an optional claim has a value.
fn is_given(claims: &Map<String, Value>, claim: &str) -> bool {
    claims.get(claim).is_some_and(|value| !value.is_null())
}

/// Whether a claim has this text, alone or in a list.
fn has(claim: Option<&Value>, expected: &str) -> bool {
    match claim {
        Some(Value::Array(all)) => all.iter().any(|one| one == expected),
        Some(one) => one == expected,
        None => false,
    }
}

fn shown(claim: Option<&Value>) -> String {
    claim.map_or_else(
        || "missing".to_owned(),
        |value| format!("`{}`", clean(value.as_str().unwrap_or(&value.to_string()))),
    )
}

#[cfg(test)]
mod tests;
