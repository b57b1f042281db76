use clap::CommandFactory;

use super::*;

const NEEDED: [&str; 4] = [
    "gateway",
    "--redis-url",
    "redis://h",
    "--allow-anonymous=read",
];

fn parse(more: &[&str]) -> Result<Config, Usage> {
    Config::try_from_args(NEEDED.iter().chain(more))
}

#[test]
fn the_command_line_is_defined_consistently() {
    Config::command().debug_assert();
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.http_port, 3002);
    assert!(config.allowed_origins.is_empty());
    assert!(!config.broadcast_all);
    assert_eq!((config.alerts_bound, config.outbox_packets), (100, 4096));
}

#[test]
fn the_port_of_a_hosting_platform_is_used_if_ours_is_not_set() {
    assert_eq!(parse(&["--port", "8080"]).unwrap().http_port, 8080);
    assert_eq!(
        parse(&["--port", "8080", "--http-port", "3002"])
            .unwrap()
            .http_port,
        3002
    );
}

#[test]
fn origins_are_a_trimmed_comma_list() {
    let config = parse(&["--allowed-origins", "https://a.example, https://b.example"]).unwrap();
    assert_eq!(
        config.allowed_origins,
        ["https://a.example", "https://b.example"]
    );
}

#[test]
fn without_authentication_it_starts_only_if_anonymous_access_is_allowed() {
    let usage = Config::try_from_args(["gateway", "--redis-url", "redis://h"]).unwrap_err();
    assert_eq!(
        (usage.to_string().as_str(), usage.exit_code()),
        (
            "no authentication is configured: pass --token-key-files, --token-secret-file or --token-jwks-url to serve clients with tokens, --oidc-issuer \
             to let people sign in, or --allow-anonymous to serve every client",
            2
        )
    );
}

#[test]
fn a_bad_flag_gives_exit_code_2_and_one_sentence() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--http-port", "x"],
            "--http-port: invalid value `x`: expected a whole number",
        ),
        (
            &["--linger", "30"],
            "--linger: invalid value `30`: expected a whole number and a unit, such as 500ms, 90s, 3m, 24h",
        ),
        (
            &["--alarm-deadline", "0s"],
            "--alarm-deadline: must be at least 1s",
        ),
        (
            &["--redis-away-after", "9s"],
            "--redis-away-after: must be at most 4s",
        ),
        (
            &["--outbox-packets", "0"],
            "--outbox-packets: invalid value `0`: 0 is not in 16..=4294967295",
        ),
        (
            &["--linge-max"],
            "--linge-max is no setting: did you mean --linger-max? If not, try --help",
        ),
    ];
    for (args, expected) in cases {
        let usage = parse(args).unwrap_err();
        assert_eq!(
            (usage.to_string().as_str(), usage.exit_code()),
            (*expected, 2),
            "{args:?}"
        );
    }
    for (flag, value) in [
        ("--redis-url", "http://:pw@h"),
        ("--allowed-origins", "nonsense"),
    ] {
        let args = [
            "gateway",
            "--allow-anonymous",
            "--redis-url",
            "redis://h",
            flag,
            value,
        ];
        let text = Config::try_from_args(args).unwrap_err().to_string();
        assert!(!text.contains('\n') && !text.contains("pw"), "{text}");
    }
}

#[test]
fn flag_and_variable_have_the_same_name() {
    for arg in Config::command().get_arguments() {
        let (Some(long), Some(env)) = (arg.get_long(), arg.get_env()) else {
            continue;
        };
        assert_eq!(
            env.to_str(),
            Some(long.to_uppercase().replace('-', "_").as_str())
        );
    }
}

#[test]
fn the_start_line_has_what_differs_from_the_defaults() {
    let config = parse(&["--port=8080", "--compress", "--linger=30s"]);
    assert_eq!(
        config.unwrap().start_report.changed_settings,
        "--redis-url=redis://h:6379 --http-port=8080 --port=8080 --allow-anonymous=read --compress"
    );
}

#[test]
fn the_env_example_has_every_setting_with_its_default() {
    let example = include_str!("../../../.env.example");
    let differences = args::compare_example(example, "gateway", &Config::command());
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn the_env_example_names_the_origins_of_the_replaced_front_end() {
    let example = include_str!("../../../.env.example");
    let line = example
        .lines()
        .find_map(|line| line.strip_prefix("#ALLOWED_ORIGINS="));
    let origins = line.expect("a line").split(',');
    assert!(
        origins
            .into_iter()
            .any(|origin| origin == "https://*.vercel.app")
    );
}

#[test]
fn the_origin_null_is_a_warning() {
    let config = parse(&["--allowed-origins=https://a.example,null"]).unwrap();
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("--allowed-origins has `null`"),
        "{warnings:?}"
    );
}

#[test]
fn the_proxy_protocol_needs_proxies_and_a_port_for_probes() {
    let usage = parse(&["--proxy-protocol"]).unwrap_err();
    assert_eq!(
        usage.to_string(),
        "--proxy-protocol: list the proxies in --trusted-proxies"
    );
    let flags = ["--proxy-protocol", "--trusted-proxies=10.0.0.0/8"];
    let warnings = parse(&flags).unwrap().warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("--proxy-protocol without --ops-port"),
        "{warnings:?}"
    );
    let complete = parse(&[&flags[..], &["--ops-port=3004"]].concat()).unwrap();
    assert!(complete.warnings().is_empty());
}

#[test]
fn a_limit_to_try_out_must_exist() {
    let config = parse(&["--limits-dry-run=request-rate,packet-rate"]).unwrap();
    assert_eq!(config.limits_dry_run, ["request-rate", "packet-rate"]);
    let usage = parse(&["--limits-dry-run=request-rates"]).unwrap_err();
    let text = usage.to_string();
    assert!(text.contains("did you mean request-rate?"), "{text}");
}

#[test]
fn a_limit_that_one_address_can_use_up_is_a_warning() {
    assert!(parse(&[]).unwrap().warnings().is_empty());
    let small = parse(&["--max-watched=10"]).unwrap();
    let warnings = small.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("--max-watched (10) is not above --watched-per-address (20000)")
    );
}

#[test]
fn what_anonymous_clients_may_do_is_a_word_or_that_of_the_former_switch() {
    for (text, expected) in [
        ("none", Some(Anonymous::None)),
        ("false", Some(Anonymous::None)),
        ("Read", Some(Anonymous::Read)),
        ("all", Some(Anonymous::All)),
        ("TRUE", Some(Anonymous::All)),
        ("yes", Some(Anonymous::All)),
        ("1", Some(Anonymous::All)),
        ("write", None),
        ("", None),
    ] {
        assert_eq!(Anonymous::parse(text).ok(), expected, "{text}");
    }
}

#[test]
fn that_everybody_may_do_everything_is_a_warning() {
    let config = |flag| Config::try_from_args(["gateway", "--redis-url", "redis://h", flag]);
    for flag in ["--allow-anonymous", "--allow-anonymous=all"] {
        let warnings = config(flag).unwrap().warnings();
        assert!(warnings[0].starts_with("--allow-anonymous=all: whoever"));
    }
}

#[test]
fn tokens_need_keys_issuer_and_audience() {
    let folder = tempfile::tempdir().unwrap();
    let dashes = "-".repeat(5);
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let secret = format!("--token-secret-file={}", file("secret", &"x".repeat(32)));
    let short = format!("--token-secret-file={}", file("short", "x"));
    let pem = format!(
        "--token-secret-file={}",
        file("pem", &format!("{dashes}BEGIN PUBLIC KEY{dashes}"))
    );
    let private = format!(
        "--token-key-files={}",
        file("key", &format!("{dashes}BEGIN PRIVATE KEY{dashes}"))
    );
    let nothing = format!("--token-key-files={}", file("nothing", ""));
    let (issuer, audience) = ("--token-issuer=https://login.test", "--token-audience=gas");
    for (flags, expected) in [
        (vec![&*secret, issuer, audience], None),
        (vec![&*secret, issuer], Some("--token-audience: required")),
        (vec![&*secret, audience], Some("--token-issuer: required")),
        (vec![issuer], Some("--token-issuer: has no effect without")),
        (vec!["--token-in-query"], Some("--token-in-query: has no")),
        (vec![&*short, issuer, audience], Some("at least 32 bytes")),
        (vec![&*pem, issuer, audience], Some("--token-key-files")),
        (vec![&*private, issuer, audience], Some("private key")),
        (vec![&*nothing, issuer, audience], Some("public key in PEM")),
        (
            vec!["--token-secret-file=/nowhere", issuer, audience],
            Some("--token-secret-file: cannot use `/nowhere`: No such file"),
        ),
    ] {
        let found = parse(&flags).err().map(|usage| usage.to_string());
        match (&found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
            _ => panic!("{flags:?}: {found:?}"),
        }
    }
}
