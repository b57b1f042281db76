//! Names of the Socket.IO events. `gateway/README.md` describes when they are sent, and their payloads.

/// From a client: start sending the events of a device.
pub(crate) const SUBSCRIBE_DEVICE: &str = "subscribe:device";
/// From a client: stop sending the events of a device.
pub(crate) const UNSUBSCRIBE_DEVICE: &str = "unsubscribe:device";
/// From a client: start sending the rows of all devices.
pub(crate) const SUBSCRIBE_FLEET: &str = "subscribe:fleet";
/// From a client: stop sending the rows of all devices.
pub(crate) const UNSUBSCRIBE_FLEET: &str = "unsubscribe:fleet";
/// From a client: start sending the open alarms of all devices.
pub(crate) const SUBSCRIBE_ALARMS: &str = "subscribe:alarms";
/// From a client: stop sending the open alarms of all devices.
pub(crate) const UNSUBSCRIBE_ALARMS: &str = "unsubscribe:alarms";
/// From a client: replace the token of this connection.
pub(crate) const AUTH_REFRESH: &str = "auth:refresh";

/// The reading of a device.
pub(crate) const DEVICE_DATA: &str = "device:data";
/// The fields of a reading that differ from the one before, for clients that ask for them.
pub(crate) const DEVICE_DATA_CHANGED: &str = "device:data:changed";
/// The alarms of a device that were raised or escalated, or all open ones in a snapshot.
pub(crate) const DEVICE_ALERTS: &str = "device:alerts";
/// The alarm transitions of a device.
pub(crate) const DEVICE_ALERTS_CHANGED: &str = "device:alerts:changed";
/// All rows, in chunks.
pub(crate) const FLEET_SNAPSHOT: &str = "fleet:snapshot";
/// The rows that changed.
pub(crate) const FLEET_CHANGED: &str = "fleet:changed";
/// All open alarms, in chunks.
pub(crate) const ALARMS_SNAPSHOT: &str = "alarms:snapshot";
/// The transitions of alarms.
pub(crate) const ALARMS_CHANGED: &str = "alarms:changed";
/// Where devices are, with `--location-events`.
pub(crate) const ACTIVE_LOCATIONS: &str = "activeDevicesLocations";
/// Where one device is, which is news.
pub(crate) const LOCATION_UPDATE: &str = "deviceLocationUpdate";
/// The payload of [`DEVICE_DATA`], sent to every client with `--broadcast-all`.
pub(crate) const BROADCAST_DATA: &str = "subtronics:data";
/// The state of the data path.
pub(crate) const SYSTEM_STATUS: &str = "system:status";
/// The announcement that the token of this connection expires.
pub(crate) const AUTH_EXPIRING: &str = "auth:expiring";
/// The announcement that this replica will close the connection.
pub(crate) const SERVER_DRAIN: &str = "server:drain";
