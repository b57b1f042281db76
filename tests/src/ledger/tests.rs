use super::oracle::{Sample, changes};

#[test]
fn the_oracle_tells_the_life_of_an_alarm() {
    let samples = [
        (0, false),
        (1, false),
        (3, false),
        (3, false),
        (2, false),
        (0, false),
        (0, true),
        (0, true),
        (0, false),
        (1, false),
        (0, true),
        (0, false),
    ];
    let told = changes(
        samples
            .into_iter()
            .map(|(level, fault)| Sample { level, fault }),
    );
    assert_eq!(
        told,
        [
            "raised alarm_level_1",
            "escalated alarm_level_3",
            "de_escalated alarm_level_2",
            "cleared alarm_level_2",
            "raised sensor_fault",
            "cleared sensor_fault",
            "raised alarm_level_1",
            "raised sensor_fault",
            "cleared sensor_fault",
            "cleared alarm_level_1",
        ]
    );
}
