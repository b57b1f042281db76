//! Opening the epochs of partitions.

use super::command_connection::CommandConnection;
use super::refusal::refusal;
use super::scripts::Scripts;
use crate::error_chain::error_chain;
use crate::keys::PartitionKeys;
use crate::position::Epoch;

/// Opens a new epoch in every partition that has none, or whose epoch was opened on another run of the server.
///
/// A partition whose hash has the wrong type does not stop the others. The commits of its devices are refused one by one.
pub(super) async fn open_epochs(
    redis: &mut CommandConnection,
    scripts: &Scripts,
    partitions: u16,
    run_id: &str,
) -> redis::RedisResult<()> {
    let mut pipe = redis::pipe();
    pipe.ignore_errors();
    for number in 0..partitions {
        open_epoch(&mut pipe, scripts, number, run_id, None);
    }
    let answers: Vec<redis::RedisResult<redis::Value>> = pipe.query_async(redis).await?;
    for (number, answer) in answers.into_iter().enumerate() {
        if let Err(err) = answer {
            if refusal(&err).is_some() {
                return Err(err);
            }
            let error = error_chain(&err);
            tracing::error!(error, partition = number, "partition cannot be used");
        }
    }
    Ok(())
}

/// Adds the call that opens a new epoch where it is needed. `given_up` is an epoch that is replaced in any case.
pub(crate) fn open_epoch(
    pipe: &mut redis::Pipeline,
    scripts: &Scripts,
    partition: u16,
    run_id: &str,
    given_up: Option<Epoch>,
) {
    pipe.cmd("EVALSHA")
        .arg(&scripts.epoch)
        .arg(1)
        .arg(PartitionKeys::new(partition).partition())
        .arg(run_id)
        .arg(Epoch::from_bits(fastrand::u64(..)).to_string())
        .arg(given_up.map_or_else(String::new, |epoch| epoch.to_string()));
}
