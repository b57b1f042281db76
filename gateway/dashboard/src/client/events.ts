// What goes over Socket.IO. All of it is generated from /openapi.json (`npm run types`): here are the names by which this client calls it.
import type { components } from './openapi';

type Schemas = components['schemas'];
type Events = Schemas['SocketEvents'];
type Answers = Schemas['SocketAnswers'];

export type Reading = Schemas['Reading'];
export type Alert = Schemas['Alert'];
export type AlarmLogRow = Schemas['AlarmLogRow'];
export type Severity = Alert['severity'];
/** How an alarm changed. */
export type Change = Schemas['AlarmChange'];
export type ChangedAlert = Schemas['ChangedAlert'];

export type DeviceData = Events['device:data'];
export type DeviceAlerts = Events['device:alerts'];
export type DeviceAlertsChanged = Events['device:alerts:changed'];

/** One device in the fleet. */
export type FleetRow = Schemas['FleetRow'];
export type DeviceStatus = FleetRow['status'];
export type Level = NonNullable<FleetRow['level']>;
export type FleetSnapshot = Events['fleet:snapshot'];
export type FleetChanged = Events['fleet:changed'];
export type FleetFilter = Schemas['FleetFilter'];

/** An open alarm of any device. `name` is what operators call the device; without it, it is known by what it calls itself. */
export type OpenAlarm = Schemas['OpenAlarm'];
export type EndedAlarm = Schemas['EndedAlarm'];
export type AlarmsSnapshot = Events['alarms:snapshot'];
export type AlarmsChanged = Events['alarms:changed'];
export type AlarmFilter = Schemas['AlarmFilter'];

export type SystemStatus = Events['system:status'];
export type Refusal = Schemas['Refused']['error'];

/** The events that the server sends. */
export type ServerEvents = { [Name in keyof Events]: (body: Events[Name]) => void };

/** The events that a client sends, with their argument. */
export type Commands = Schemas['SocketCommands'];
export type Command = keyof Commands;

/** What the callback of a command gets: what was done, or why it was refused. */
export type Answer<Name extends Command> = Answers[Name];
export type DeviceAnswer = Answer<'subscribe:device'>;
