#[test]
fn every_input_of_the_corpus_passes() {
    test_support::corpus::replay(super::TARGETS);
}
