use super::*;

#[test]
fn a_secret_prints_as_stars_and_can_be_exposed() {
    let secret: Secret<String> = "hunter2".parse().unwrap();
    assert_eq!(
        format!("{secret} {secret:?} {:?}", Some(&secret)),
        "*** *** Some(***)"
    );
    assert_eq!(secret.expose(), "hunter2");
}
