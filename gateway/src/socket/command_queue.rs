//! The commands of one client that wait until those before them are carried out.
//!
//! A command may have to wait for Redis. Meanwhile the client must be read and sent pings, so its commands are carried out beside
//! that. Nothing is allocated before the first command, as connections are many and most are idle.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::command::{ClientCommand, Subscriptions, carry_out};
use super::context::ConnectionContext;
use crate::client::Client;
use crate::client::close_reason::CloseReason;

/// The commands of one client that wait.
#[derive(Debug)]
pub(super) struct CommandQueue {
    // A std mutex: held for one addition or removal.
    commands: Mutex<VecDeque<ClientCommand>>,
    arrived: Notify,
    max: usize,
}

impl CommandQueue {
    /// Creates a queue of at most `max` commands.
    pub(super) fn new(max: usize) -> Self {
        Self {
            commands: Mutex::default(),
            arrived: Notify::new(),
            max,
        }
    }

    /// Adds a command. No two with a token may wait, as tokens are long.
    ///
    /// # Errors
    /// Too many wait already: the client must be disconnected.
    pub(super) fn push(&self, command: ClientCommand) -> Result<(), CloseReason> {
        let mut commands = self.commands();
        let is_second_token = command.has_token() && commands.iter().any(ClientCommand::has_token);
        if commands.len() >= self.max || is_second_token {
            return Err(CloseReason::TooManyCommands);
        }
        commands.push_back(command);
        self.arrived.notify_one();
        Ok(())
    }

    /// Carries out one command after the other. Never returns.
    pub(super) async fn carry_out_all(
        &self,
        client: &Arc<Client>,
        context: &ConnectionContext,
        subscriptions: &mut Subscriptions,
    ) {
        loop {
            self.carry_out_waiting(client, context, subscriptions).await;
            self.arrived.notified().await;
        }
    }

    /// Carries out one command after the other, until `stop` is cancelled and none waits.
    pub(super) async fn carry_out_until(
        &self,
        stop: &CancellationToken,
        client: &Arc<Client>,
        context: &ConnectionContext,
        subscriptions: &mut Subscriptions,
    ) {
        loop {
            self.carry_out_waiting(client, context, subscriptions).await;
            if stop.is_cancelled() {
                return;
            }
            stop.run_until_cancelled(self.arrived.notified()).await;
        }
    }

    async fn carry_out_waiting(
        &self,
        client: &Arc<Client>,
        context: &ConnectionContext,
        subscriptions: &mut Subscriptions,
    ) {
        while let Some(command) = self.pop() {
            // On the heap, as the memory is needed for a moment only.
            Box::pin(carry_out(client, command, context, subscriptions)).await;
        }
    }

    fn pop(&self) -> Option<ClientCommand> {
        let mut commands = self.commands();
        let command = commands.pop_front();
        if commands.is_empty() {
            *commands = VecDeque::new();
        }
        command
    }

    fn commands(&self) -> MutexGuard<'_, VecDeque<ClientCommand>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
