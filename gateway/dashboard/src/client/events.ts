// What the gateway sends over Socket.IO. Readings and alerts are the types of /openapi.json.
import type { components } from './openapi';
import type { Position, Positioned } from './positions';

export type Reading = components['schemas']['Reading'];
/** What somebody wrote who acknowledged. */
interface Noted {
  acknowledged_note?: string | null;
}
export type Alert = components['schemas']['Alert'] & Noted;
export type AlarmLogRow = components['schemas']['AlarmLogRow'] & Noted;
export type Readiness = components['schemas']['Readiness'];
export type Severity = Alert['severity'];

/** How an alarm changed. */
export type Change =
  | 'raised'
  | 'escalated'
  | 'de_escalated'
  | 'latched'
  | 'unlatched'
  | 'returned'
  | 'acknowledged'
  | 'cleared'
  | 'retired';

export type ChangedAlert = Alert & { change: Change };

export interface DeviceData extends Positioned {
  deviceId: string;
  data: Reading;
  timestamp: string;
  age_ms: number | null;
}

export interface DeviceAlerts extends Positioned {
  deviceId: string;
  alerts: Alert[];
}

export interface DeviceAlertsChanged extends Positioned {
  deviceId: string;
  alerts: ChangedAlert[];
  timestamp: string;
}

/** The answer to a subscription, or why it was refused. */
export type Answer<T> = ({ ok: true } & T) | { ok: false; error: { code: string; message: string } };

export type DeviceAnswer = Answer<{
  deviceId: string;
  epoch?: string;
  seq: number;
  recovered: boolean;
  alarmsRecovered?: boolean;
}>;

export type DeviceStatus = 'online' | 'warning' | 'critical' | 'offline';
export type Level = 'A1' | 'A2' | 'A3' | 'fault';

/** One device in the fleet. */
export interface FleetRow extends Position {
  deviceId: string;
  id: string;
  name: string;
  gas_type: string;
  unit: string;
  sensor_reading: number | null;
  alarm_status: 'ALARM' | 'NORMAL';
  status: DeviceStatus;
  offline?: boolean;
  data_quality: string;
  lastSeen: string | null;
  timestamp: string;
  location: string;
  latitude: string | number;
  longitude: string | number;
  span_high: number;
  span_low: number;
  a1_level: number;
  a2_level: number;
  a3_level: number;
  zone: string | null;
  site: string | null;
  /** How many alarms are open. */
  alarms: number;
  level: Level | null;
}

export interface FleetSnapshot {
  devices: FleetRow[];
  /** A new list begins here, whatever came before. */
  first?: boolean;
  more: boolean;
  timestamp: string;
}

export interface FleetChanged {
  devices: FleetRow[];
  removed: string[];
  timestamp: string;
}

export interface FleetFilter {
  status?: DeviceStatus | DeviceStatus[];
  prefix?: string;
}

/** An open alarm of any device. `name` is what operators call the device, else what it calls itself. */
export type OpenAlarm = Alert & Position & { deviceId: string; name: string; zone: string | null; site: string | null };

export interface AlarmsSnapshot {
  alarms: OpenAlarm[];
  /** A new list begins here, whatever came before. */
  first?: boolean;
  more: boolean;
  timestamp: string;
}

export interface EndedAlarm {
  id: string;
  deviceId: string;
  change: Change;
  timestamp: string;
}

export interface AlarmsChanged {
  changed: OpenAlarm[];
  ended: EndedAlarm[];
  timestamp: string;
}

export interface AlarmFilter {
  severity?: Severity | Severity[];
  prefix?: string;
}

export type SystemStatus = Readiness & { timestamp: string };

/** The events that the server sends. */
export interface ServerEvents {
  'device:data': (body: DeviceData) => void;
  'device:alerts': (body: DeviceAlerts) => void;
  'device:alerts:changed': (body: DeviceAlertsChanged) => void;
  'fleet:snapshot': (body: FleetSnapshot) => void;
  'fleet:changed': (body: FleetChanged) => void;
  'alarms:snapshot': (body: AlarmsSnapshot) => void;
  'alarms:changed': (body: AlarmsChanged) => void;
  'system:status': (body: SystemStatus) => void;
  'auth:expiring': (body: { expiresInMs: number; closesInMs: number }) => void;
  'server:drain': (body: { reconnectInMs: number }) => void;
}
