//! The commands of one client that wait until those before them are carried out.
//!
//! A command may have to wait for Redis. Meanwhile the client must be read and sent pings, so commands have a task branch of their
//! own. Nothing is allocated before the first command, as connections are many and most are idle.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::client::Client;
use crate::client::close_reason::CloseReason;
use crate::socket::command::{ClientCommand, Subscriptions, carry_out};
use crate::socket::context::ConnectionContext;

/// The commands of one client that wait.
#[derive(Debug)]
pub(super) struct Commands {
    // A std mutex: held for one addition or removal.
    queue: Mutex<VecDeque<ClientCommand>>,
    arrived: Notify,
    max: usize,
}

impl Commands {
    /// Creates a queue of at most `max` commands.
    pub(super) fn new(max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            arrived: Notify::new(),
            max,
        }
    }

    /// Adds a command.
    ///
    /// # Errors
    /// Too many wait already: the client must be disconnected.
    pub(super) fn push(&self, command: ClientCommand) -> Result<(), CloseReason> {
        let mut queue = self.queue();
        if queue.len() >= self.max {
            return Err(CloseReason::TooManyCommands);
        }
        queue.push_back(command);
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
            let Some(command) = self.pop() else {
                self.arrived.notified().await;
                continue;
            };
            // On the heap, as the memory is needed for a moment only.
            Box::pin(carry_out(client, command, context, subscriptions)).await;
        }
    }

    fn pop(&self) -> Option<ClientCommand> {
        let mut queue = self.queue();
        let command = queue.pop_front();
        if queue.is_empty() {
            *queue = VecDeque::new();
        }
        command
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<ClientCommand>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
