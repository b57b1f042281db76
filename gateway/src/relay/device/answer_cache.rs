//! Answers that clients at the same position share.

use crate::replay::CatchUp;

/// The answers of one load, one for each position at which clients are. There are few different ones.
#[derive(Debug)]
pub(super) struct AnswerCache<P>(Vec<(P, CatchUp)>);

impl<P: Copy + PartialEq> AnswerCache<P> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns the answer for this position. Computed for the first client at that position.
    pub(super) fn get(&mut self, position: P, compute: impl FnOnce() -> CatchUp) -> &CatchUp {
        let Self(answers) = self;
        let index = answers
            .iter()
            .position(|(computed_for, _)| *computed_for == position)
            .unwrap_or_else(|| {
                answers.push((position, compute()));
                answers.len() - 1
            });
        &answers[index].1
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CatchUp> {
        self.0.iter().map(|(_, answer)| answer)
    }
}
