use super::*;

#[test]
fn each_limit_has_the_code_and_the_setting_of_its_place() {
    for (index, limit) in Limit::ALL.into_iter().enumerate() {
        assert_eq!(limit as usize, index);
        let setting = Limit::SETTINGS[index];
        assert_eq!(Limit::of_setting(setting), Some(limit));
        assert_eq!(limit.code(), setting.replace('-', "_"));
    }
    assert_eq!(Limit::of_setting("all"), None);
}
