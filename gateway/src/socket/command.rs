//! The commands of clients, received in the order in which they were sent, and carried out one by one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::device::DeviceId;
use shared::position::Position;

use super::context::ConnectionContext;
use super::feed_command::{AlarmsArgument, FeedKind, FeedSubscriptions, FleetArgument};
use super::packet::ClientEvent;
use super::refusal::Refusal;
use super::token_refresh;
use crate::access::permission::Verb;
use crate::admission::caller::Caller;
use crate::admission::enforcement::Enforcement;
use crate::admission::limit::Limit;
use crate::audit::Actor;
use crate::client::Client;
use crate::client_address::ClientAddress;
use crate::event_names::{
    AUTH_REFRESH, SUBSCRIBE_ALARMS, SUBSCRIBE_DEVICE, SUBSCRIBE_FLEET, UNSUBSCRIBE_ALARMS,
    UNSUBSCRIBE_DEVICE, UNSUBSCRIBE_FLEET,
};
use crate::feeds::subscriber::Feed;
use crate::json;
use crate::relay::Relay;
use crate::relay::command::Join;
use crate::watches::{Watch, Watches};

/// One event of a client. While it waits it is small, whatever the client sent: the queue has room for one token.
#[derive(Debug)]
pub(super) struct ClientCommand {
    order: Order,
    /// The acknowledgement id under which the client expects a reply.
    ack: Option<i64>,
}

#[derive(Debug)]
enum Order {
    Subscribe(Target),
    Unsubscribe(Target),
    /// Send all rows, or all open alarms.
    Follow(Feed),
    Unfollow(FeedKind),
    /// Replace the token of the connection.
    Refresh(Box<str>),
    /// It cannot be read.
    Unreadable(Refusal),
}

/// An event that clients send about a device.
#[derive(Clone, Copy, Debug)]
pub(super) enum DeviceCommand {
    Subscribe,
    Unsubscribe,
}

/// What a command is about.
#[derive(Debug, PartialEq)]
struct Target {
    device: DeviceId,
    /// The last position that the client has received.
    since: Option<Position>,
    /// The client wants only the changed fields of readings.
    changes: bool,
}

/// The argument of `auth:refresh`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum TokenArgument {
    Token(Box<str>),
    Object { token: Box<str> },
    Unreadable(serde::de::IgnoredAny),
}

/// The argument of the events about a device. Older front ends send the bare id.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Argument {
    Id(String),
    #[serde(rename_all = "camelCase")]
    Object {
        device_id: String,
        #[serde(default)]
        since: Option<Position>,
        #[serde(default)]
        changes: Option<bool>,
    },
    Unreadable(serde::de::IgnoredAny),
}

impl ClientCommand {
    /// `argument`: that of the event; `None` without one, or if it cannot be read.
    pub(super) fn of_device(
        command: DeviceCommand,
        argument: Option<Argument>,
        ack: Option<i64>,
    ) -> Self {
        let order = match (argument.and_then(Argument::target), command) {
            (Some(target), DeviceCommand::Subscribe) => Order::Subscribe(target),
            (Some(target), DeviceCommand::Unsubscribe) => Order::Unsubscribe(target),
            (None, _) => Order::Unreadable(Refusal::Invalid),
        };
        Self { order, ack }
    }

    /// `argument`: that of the event; `None` without one.
    pub(super) fn follow_fleet(argument: Option<FleetArgument>, ack: Option<i64>) -> Self {
        Self::follow(argument.unwrap_or(FleetArgument::Nothing).feed(), ack)
    }

    /// `argument`: that of the event; `None` without one.
    pub(super) fn follow_alarms(argument: Option<AlarmsArgument>, ack: Option<i64>) -> Self {
        Self::follow(argument.unwrap_or(AlarmsArgument::Nothing).feed(), ack)
    }

    fn follow(feed: Option<Feed>, ack: Option<i64>) -> Self {
        let order = feed.map_or(Order::Unreadable(Refusal::InvalidFeed), Order::Follow);
        Self { order, ack }
    }

    pub(super) fn unfollow(kind: FeedKind, ack: Option<i64>) -> Self {
        let order = Order::Unfollow(kind);
        Self { order, ack }
    }

    /// `argument`: that of the event; `None` without one, or if it cannot be read.
    pub(super) fn refresh(argument: Option<TokenArgument>, ack: Option<i64>) -> Self {
        let order = match argument {
            Some(TokenArgument::Token(token) | TokenArgument::Object { token }) => {
                Order::Refresh(token)
            }
            Some(TokenArgument::Unreadable(_)) | None => Order::Unreadable(Refusal::NoToken),
        };
        Self { order, ack }
    }

    /// Returns the name of its event.
    fn name(&self) -> &'static str {
        match self.order {
            Order::Subscribe(_) => SUBSCRIBE_DEVICE,
            Order::Unsubscribe(_) => UNSUBSCRIBE_DEVICE,
            Order::Follow(Feed::Fleet { .. }) => SUBSCRIBE_FLEET,
            Order::Follow(Feed::Alarms { .. }) => SUBSCRIBE_ALARMS,
            Order::Unfollow(FeedKind::Fleet) => UNSUBSCRIBE_FLEET,
            Order::Unfollow(FeedKind::Alarms) => UNSUBSCRIBE_ALARMS,
            Order::Refresh(_) => AUTH_REFRESH,
            Order::Unreadable(_) => "",
        }
    }

    /// Returns the device that it asks for.
    fn device(&self) -> Option<DeviceId> {
        match &self.order {
            Order::Subscribe(target) => Some(target.device.clone()),
            _ => None,
        }
    }

    /// Whether it holds a token.
    pub(super) fn has_token(&self) -> bool {
        matches!(self.order, Order::Refresh(_))
    }

    /// Reads an event; `None` if it has another name.
    pub(super) fn from_event(event: &ClientEvent<'_>) -> Option<Self> {
        let argument = event.argument.map(RawValue::get);
        let command = match event.name.as_str() {
            SUBSCRIBE_DEVICE => DeviceCommand::Subscribe,
            UNSUBSCRIBE_DEVICE => DeviceCommand::Unsubscribe,
            AUTH_REFRESH => {
                let argument = argument.and_then(|text| serde_json::from_str(text).ok());
                return Some(Self::refresh(argument, event.ack));
            }
            SUBSCRIBE_FLEET => {
                let argument = argument.and_then(|text| serde_json::from_str(text).ok());
                return Some(Self::follow_fleet(argument, event.ack));
            }
            SUBSCRIBE_ALARMS => {
                let argument = argument.and_then(|text| serde_json::from_str(text).ok());
                return Some(Self::follow_alarms(argument, event.ack));
            }
            UNSUBSCRIBE_FLEET => return Some(Self::unfollow(FeedKind::Fleet, event.ack)),
            UNSUBSCRIBE_ALARMS => return Some(Self::unfollow(FeedKind::Alarms, event.ack)),
            _ => return None,
        };
        let argument = argument.and_then(|text| serde_json::from_str(text).ok());
        Some(Self::of_device(command, argument, event.ack))
    }
}

impl Argument {
    fn target(self) -> Option<Target> {
        let (device, since, changes) = match self {
            Self::Id(id) => (id, None, None),
            Self::Object {
                device_id,
                since,
                changes,
            } => (device_id, since, changes),
            Self::Unreadable(_) => return None,
        };
        let device = device.parse().ok()?;
        Some(Target {
            device,
            since,
            changes: changes.unwrap_or_default(),
        })
    }
}

/// The devices a client subscribed to, and whether it follows all devices.
pub(super) struct Subscriptions {
    devices: HashMap<DeviceId, Arc<Watch>>,
    feeds: FeedSubscriptions,
    /// Those of them that exceed a limit that is only tried out. As if they were refused, they do not count.
    uncounted: HashSet<DeviceId>,
    limit: usize,
    enforcement: Enforcement,
    watches: Watches,
    address: ClientAddress,
    /// The number of devices at which refused ones are forgotten.
    next_check: usize,
    refreshes: Refreshes,
}

/// How often the client may replace its token: a signature costs more than any other command.
#[derive(Debug)]
struct Refreshes {
    /// The end of the time that those until now have used up.
    used_until: Option<Instant>,
}

impl Refreshes {
    /// On average.
    const INTERVAL: Duration = Duration::from_secs(10);
    const BURST: u32 = 10;

    fn admit(&mut self, now: Instant) -> bool {
        let used = self.used_until.map_or(now, |until| until.max(now));
        let is_free = used - now <= Self::INTERVAL * (Self::BURST - 1);
        if is_free {
            self.used_until = Some(used + Self::INTERVAL);
        }
        is_free
    }
}

/// The first [`Subscriptions::next_check`].
const FIRST_CHECK: usize = 32;

impl Subscriptions {
    /// Creates an empty set of at most `limit` devices.
    pub(super) fn new(
        limit: usize,
        watches: Watches,
        address: ClientAddress,
        enforcement: Enforcement,
    ) -> Self {
        Self {
            devices: HashMap::new(),
            feeds: FeedSubscriptions::default(),
            uncounted: HashSet::new(),
            limit,
            enforcement,
            watches,
            address,
            next_check: FIRST_CHECK,
            refreshes: Refreshes { used_until: None },
        }
    }

    pub(super) fn devices(&self) -> HashSet<DeviceId> {
        self.devices.keys().cloned().collect()
    }

    /// Adds a device, if the limits allow it. A device that is already subscribed to is always allowed, unless `too_many_wait`: as
    /// many subscriptions of the client as allowed are not answered yet.
    async fn add(&mut self, device: &DeviceId, too_many_wait: bool) -> Result<Arc<Watch>, Refusal> {
        let known = self.devices.get(device);
        let known = known.filter(|watch| watch.refused().is_none()).cloned();
        if known.is_none() {
            self.forget_refused();
        }
        let is_full = known.is_none() && self.count() >= self.limit;
        let exceeds = too_many_wait || is_full;
        if exceeds && self.refuses() {
            return Err(Refusal::Limit(self.limit));
        }
        if let Some(known) = known {
            return Ok(known);
        }
        let watch = Arc::new(self.watches.begin(device, self.address).await?);
        self.devices.insert(device.clone(), Arc::clone(&watch));
        if exceeds {
            self.uncounted.insert(device.clone());
        }
        Ok(watch)
    }

    fn remove(&mut self, device: &DeviceId) {
        self.devices.remove(device);
        self.uncounted.remove(device);
    }

    /// Returns the number of subscriptions that count.
    fn count(&self) -> usize {
        self.devices.len() - self.uncounted.len() + self.feeds.count()
    }

    fn refuses(&self) -> bool {
        let caller = Caller::Address(self.address);
        let limit = Limit::SubscriptionsPerClient;
        self.enforcement.refuses(limit, Some(caller))
    }

    /// Forgets the devices that were refused when they turned out not to be listed, each time there are twice as many as the last
    /// time. So they never are more than the others, except for a few.
    fn forget_refused(&mut self) {
        let len = self.devices.len();
        if len >= self.next_check.min(self.limit) {
            self.devices.retain(|_, watch| watch.refused().is_none());
            let devices = &self.devices;
            self.uncounted.retain(|device| devices.contains_key(device));
            self.next_check = (2 * self.devices.len()).max(FIRST_CHECK);
        }
    }
}

/// Carries out one command. While it waits for the relay, only this client waits with it.
pub(super) async fn carry_out(
    client: &Arc<Client>,
    command: ClientCommand,
    context: &ConnectionContext,
    subscriptions: &mut Subscriptions,
) {
    let ack = command.ack;
    let (asked, device) = (command.name(), command.device());
    if let Err(refusal) = try_to_carry_out(client, command, context, subscriptions).await {
        context.metrics.commands_refused.increment(refusal.code());
        if let Some(reason) = refusal.for_audit() {
            let identity = client.identity();
            let actor = Actor {
                identity: Some(&identity),
                address: subscriptions.address,
            };
            let device = device.as_ref().map(DeviceId::as_str);
            context.audit.refused(actor, reason, asked, device);
        }
        tracing::debug!(
            client = client.id().0,
            code = refusal.code(),
            "command refused"
        );
        if let Some(ack) = ack {
            client.reply(None, ack, refusal.to_reply());
        }
    }
}

async fn try_to_carry_out(
    client: &Arc<Client>,
    command: ClientCommand,
    context: &ConnectionContext,
    subscriptions: &mut Subscriptions,
) -> Result<(), Refusal> {
    let relay = &context.relay;
    match command.order {
        Order::Subscribe(target) => {
            subscribe(client, target, command.ack, relay, subscriptions).await
        }
        Order::Unsubscribe(target) => {
            subscriptions.remove(&target.device);
            // The relay replies, after everything it has sent about the device.
            relay.leave(client, target.device, command.ack).await;
            Ok(())
        }
        Order::Follow(feed) => follow(client, feed, command.ack, context, subscriptions).await,
        Order::Unfollow(kind) => {
            subscriptions.feeds.end(client, kind).await;
            if let Some(ack) = command.ack {
                client.reply(None, ack, json::to_raw(&Unfollowed { ok: true }));
            }
            Ok(())
        }
        Order::Refresh(token) => {
            if !subscriptions.refreshes.admit(Instant::now()) {
                return Err(Refusal::TooManyTokens);
            }
            let address = subscriptions.address;
            token_refresh::refresh(client, token, command.ack, address, context).await
        }
        Order::Unreadable(refusal) => Err(refusal),
    }
}

/// The reply to the end of a subscription to all devices.
#[derive(Serialize)]
struct Unfollowed {
    ok: bool,
}

/// Follows all devices. A later subscription of the same kind replaces an earlier one.
async fn follow(
    client: &Arc<Client>,
    feed: Feed,
    ack: Option<i64>,
    context: &ConnectionContext,
    subscriptions: &mut Subscriptions,
) -> Result<(), Refusal> {
    if !client.identity().permission().has(Verb::Read) {
        return Err(Refusal::Forbidden);
    }
    let kind = match feed {
        Feed::Fleet { .. } => FeedKind::Fleet,
        Feed::Alarms { .. } => FeedKind::Alarms,
    };
    let is_new = !subscriptions.feeds.has(kind);
    if is_new && subscriptions.count() >= subscriptions.limit && subscriptions.refuses() {
        return Err(Refusal::Limit(subscriptions.limit));
    }
    subscriptions.feeds.end(client, kind).await;
    subscriptions.feeds.start(client, feed, ack, context);
    Ok(())
}

async fn subscribe(
    client: &Arc<Client>,
    target: Target,
    ack: Option<i64>,
    relay: &Relay,
    subscriptions: &mut Subscriptions,
) -> Result<(), Refusal> {
    let Target {
        device,
        since,
        changes,
    } = target;
    // First: the answer must not depend on whether the device exists.
    let identity = client.identity();
    if !identity.permission().allows(Verb::Read, device.as_str()) {
        return Err(Refusal::Forbidden);
    }
    if since.is_some() {
        // A client that catches up on many devices does so on one after the other.
        client.wait_until_caught_up().await;
    }
    let reply = client.pending_replies().begin();
    let too_many_wait = reply.is_above(subscriptions.limit);
    let watch = subscriptions.add(&device, too_many_wait).await?;
    tracing::debug!(client = client.id().0, device.id = %device.for_log(), "client subscribed to device");
    let join = Join {
        client: Arc::clone(client),
        device,
        since,
        changes,
        ack,
        _reply: reply,
        watch,
    };
    relay.join(join).await;
    Ok(())
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
#[cfg(test)]
mod tests;
