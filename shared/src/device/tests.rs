use super::*;

fn device(serial: &str) -> DeviceId {
    serial.parse().expect("a serial")
}

#[test]
fn a_serial_cannot_forge_another_log_field() {
    assert_eq!(device("OTSM-0001").for_log(), "OTSM-0001");
    for forged in [
        "OTSM-0001 alarm.change=\"cleared\"",
        "OTSM\u{202e}1",
        "Büro",
    ] {
        let device = device(forged);
        let text = device.for_log();
        assert!(text.starts_with('"') && text.ends_with('"'), "{text}");
        assert!(!text.contains('\u{202e}'), "{text}");
    }
}
