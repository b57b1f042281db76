use proptest::prelude::*;

use super::*;

fn warned(set: &[&str]) -> Vec<String> {
    let set: Vec<String> = set.iter().map(|&name| name.to_owned()).collect();
    warnings(&set, &["MONGODB_URI"])
}

#[test]
fn a_mistyped_variable_is_named_with_the_setting_that_is_meant() {
    for (name, meant) in [
        ("ALOWED_ORIGINS", "ALLOWED_ORIGINS"),
        ("ALLOWED_ORIGIN", "ALLOWED_ORIGINS"),
        ("ALLOW_ORIGINS", "ALLOWED_ORIGINS"),
        ("CORS_ORIGIN", "ALLOWED_ORIGINS"),
        ("CORS_ALLOWED_ORIGINS", "ALLOWED_ORIGINS"),
        ("allowed_origins", "ALLOWED_ORIGINS"),
        ("ALLOWED-ORIGINS", "ALLOWED_ORIGINS"),
        ("MQTT_BROKER_URL", "MQTT_BROKER"),
        ("MQTT_URL", "MQTT_BROKER"),
        ("MQTT_HOST", "MQTT_BROKER"),
        ("MQTT_PORT", "MQTT_BROKER"),
        ("MQTT_USER", "MQTT_USERNAME"),
        ("MQTT_PASS", "MQTT_PASSWORD"),
        ("MQTT_TOPIC", "MQTT_TOPIC_SUBTRONICS"),
        ("MQTT_CLIENTID", "MQTT_CLIENT_ID"),
        ("REDIS_URI", "REDIS_URL"),
        ("REDIS_HOST", "REDIS_URL"),
        ("REDIS_PORT", "REDIS_URL"),
        ("REDIS_PASSWORD", "REDIS_URL"),
        ("REDIS_SSL", "REDIS_URL"),
        ("SUBTRONICS_REDIS_URL", "REDIS_URL"),
        ("GATEWAY_HTTP_PORT", "HTTP_PORT"),
        ("HTTP_PROT", "HTTP_PORT"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("LISTEN_ADDR", "LISTEN_ADDRESS"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("OFFLINE_AFTR", "OFFLINE_AFTER"),
        ("MAX_PAYLOAD", "MAX_PAYLOAD_BYTES"),
        ("PARTITION", "PARTITIONS"),
        ("MEMORY_RESERVED", "MEMORY_RESERVE"),
    ] {
        let expected =
            format!("the variable {name} is no setting and has no effect: did you mean {meant}?");
        assert_eq!(warned(&[name]), [expected], "{name}");
    }
}

#[test]
fn settings_of_both_services_are_known() {
    assert!(warned(VARIABLES).is_empty());
    assert!(warned(&["MONGODB_URI", "PORT"]).is_empty());
}

/// What a service may find in its environment, by who sets it.
const FOREIGN: &[(&str, &str)] = &[
    (
        "Shells and libraries",
        "PATH HOME HOSTNAME USER LOGNAME SHELL SHLVL PWD OLDPWD TERM LANG LC_ALL TZ MAIL DISPLAY COLUMNS LINES EDITOR \
         PAGER TMPDIR SSH_CLIENT SSH_CONNECTION SSH_AUTH_SOCK HISTSIZE HISTFILE HTTP_PROXY HTTPS_PROXY NO_PROXY \
         http_proxy ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR RUST_LOG RUST_BACKTRACE CARGO_HOME NODE_ENV NODE_OPTIONS \
         NODE_VERSION npm_config_loglevel npm_config_registry npm_package_version npm_lifecycle_event JAVA_HOME \
         MALLOC_ARENA_MAX GOMAXPROCS MIMALLOC_VERBOSE",
    ),
    (
        "systemd",
        "INVOCATION_ID JOURNAL_STREAM LISTEN_FDS LISTEN_PID LISTEN_FDNAMES NOTIFY_SOCKET WATCHDOG_USEC \
         CREDENTIALS_DIRECTORY STATE_DIRECTORY LOGS_DIRECTORY RUNTIME_DIRECTORY MEMORY_PRESSURE_WATCH \
         MEMORY_PRESSURE_WRITE SYSTEMD_EXEC_PID",
    ),
    (
        "Kubernetes, also about Services with our names, and links of Docker",
        "KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS KUBERNETES_PORT \
         KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_ADDR POD_NAME POD_NAMESPACE POD_IP NODE_NAME \
         REDIS_SERVICE_HOST REDIS_SERVICE_PORT REDIS_SERVICE_PORT_REDIS REDIS_PORT REDIS_PORT_6379_TCP \
         REDIS_PORT_6379_TCP_ADDR REDIS_PORT_6379_TCP_PORT REDIS_PORT_6379_TCP_PROTO MQTT_PORT MQTT_PORT_1883_TCP \
         MQTT_PORT_1883_TCP_PROTO MQTT_NAME MQTT_ENV_VERSION MOSQUITTO_SERVICE_HOST MOSQUITTO_PORT GATEWAY_SERVICE_HOST \
         GATEWAY_SERVICE_PORT_HTTP GATEWAY_PORT GATEWAY_PORT_3002_TCP SUBTRONICS_GATEWAY_SERVICE_HOST \
         SUBTRONICS_GATEWAY_PORT SUBTRONICS_GATEWAY_SERVICE_PORT_HTTP",
    ),
    (
        "Hosting platforms",
        "RENDER RENDER_SERVICE_NAME RENDER_EXTERNAL_HOSTNAME RENDER_EXTERNAL_URL RENDER_GIT_COMMIT RENDER_INSTANCE_ID \
         IS_PULL_REQUEST DYNO FLY_APP_NAME FLY_REGION K_SERVICE K_REVISION WEBSITE_HOSTNAME AWS_REGION \
         AWS_EXECUTION_ENV ECS_CONTAINER_METADATA_URI_V4 REDIS_TLS_URL REDIS_VERSION REDIS_DOWNLOAD_URL CI \
         GITHUB_ACTIONS container",
    ),
    (
        "Read by the OpenTelemetry library",
        "OTEL_SERVICE_NAME OTEL_RESOURCE_ATTRIBUTES OTEL_EXPORTER_OTLP_HEADERS OTEL_TRACES_EXPORTER \
         OTEL_EXPORTER_OTLP_PROTOCOL OTEL_BSP_SCHEDULE_DELAY",
    ),
    (
        "Other programs in the same environment",
        "DATABASE_URL POSTGRES_PASSWORD MONGO_URL SECRET_KEY JWT_SECRET VITE_API_URL CELERY_REDIS_URL DEVICE_NAME \
         LOG_FILE LOG_DIR HTTP_HOST ADMIN TIMEOUT DEBUG VERSION SERVICE_NAME",
    ),
];

#[test]
fn variables_of_platforms_and_of_other_programs_give_no_warning() {
    let all: Vec<&str> = FOREIGN
        .iter()
        .flat_map(|(_, names)| names.split(' '))
        .collect();
    assert_eq!(warned(&all), Vec::<String>::new());
}

/// Names of which one wrong letter does not make another word.
fn long_names() -> Vec<&'static str> {
    let long = VARIABLES.iter().copied().filter(|name| name.len() > 6);
    // Those are never looked at.
    long.filter(|name| !name.starts_with("OTEL_")).collect()
}

proptest! {
    #[test]
    fn every_setting_with_one_wrong_letter_is_noticed(
        name in proptest::sample::select(long_names()),
        at in 0_usize..64,
        letter in proptest::char::range('A', 'Z'),
        kind in 0..4,
    ) {
        let mut letters: Vec<char> = name.chars().collect();
        // A wrong first letter may make a name that is never looked at.
        let at = 1 + at % (letters.len() - 1);
        match kind {
            0 => { letters.remove(at); }
            1 => letters.insert(at, letter),
            2 => letters[at] = letter,
            _ => letters.swap(at, at - 1),
        }
        let wrong: String = letters.into_iter().collect();
        let is_known = VARIABLES.contains(&wrong.as_str());
        prop_assert_eq!(warned(&[wrong.as_str()]).len(), usize::from(!is_known), "{}", wrong);
    }

    #[test]
    fn any_names_can_be_compared(names in proptest::collection::vec("[A-Za-z0-9_.-]{0,24}|\\PC{0,8}", 0..8)) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        prop_assert!(warned(&names).len() <= names.len());
    }
}
