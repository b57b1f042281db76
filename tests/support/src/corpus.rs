//! Replays the inputs that the fuzzer starts from.

use std::fs;
use std::path::Path;

/// Name of a target, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Gives every input in the folders of these targets (`tests/fuzz/corpus`) to its target.
///
/// # Panics
/// A target does, or it has no inputs.
#[expect(
    clippy::print_stdout,
    reason = "what a failing test printed shows which input it was"
)]
pub fn replay(targets: &[Target]) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in targets {
        let folder = corpus.join(name);
        let entries = fs::read_dir(&folder).expect("a folder for each target");
        let mut inputs: Vec<_> = entries
            .map(|entry| entry.expect("an input").path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for path in inputs {
            println!("{}", path.display());
            target(&fs::read(&path).expect("a readable input"));
        }
    }
}
