// Where detectors are on the map, and which of them are shown as one. Pure: knows nothing of Leaflet.
import type { FleetRow, SitePlan } from './client';
import { isGas, urgencyOf } from './condition';
import { byUrgency, fleetItem, type FleetItem } from './fleetView';

export interface Place {
  latitude: number;
  longitude: number;
}
export interface Point {
  x: number;
  y: number;
}

/** Detectors that are too close to each other to be told apart. */
export interface MarkerGroup {
  /** The most urgent of them, where the marker is. */
  lead: FleetItem;
  place: Place;
  /** All of them, the most urgent first. */
  items: FleetItem[];
}

type Placed = Pick<FleetRow, 'location' | 'latitude' | 'longitude'>;

/** Where a detector is; `null` if that is not known. What is a usable place is decided by the server, which then has a text for it. */
export function placeOf({ location, latitude, longitude }: Placed): Place | null {
  if (!location) return null;
  const place = { latitude: Number(latitude), longitude: Number(longitude) };
  return Number.isFinite(place.latitude) && Number.isFinite(place.longitude) ? place : null;
}

export const isOnPlan = ({ south, west, north, east }: SitePlan, { latitude, longitude }: Place): boolean =>
  latitude >= south && latitude <= north && longitude >= west && longitude <= east;

/** Two corners of it. */
export const cornersOf = ({ south, west, north, east }: SitePlan): Place[] => [
  { latitude: south, longitude: west },
  { latitude: north, longitude: east },
];

/** Whether it must be seen before anything else. */
export const isAlarm = isGas;

export interface MapItem {
  item: FleetItem;
  place: Place | null;
}

/** The detectors, the most urgent first, as the fleet has them. */
export const mapItems = (rows: readonly FleetRow[], serverNow: number): MapItem[] =>
  rows.map((row) => ({ item: fleetItem(row, serverNow), place: placeOf(row) })).sort((a, b) => byUrgency(a.item, b.item));

/** Those with a place, in the order in which markers show them: gas before anything else, since a marker shows one of several. */
export const markerOrder = (sorted: readonly MapItem[]): { item: FleetItem; place: Place }[] =>
  sorted.flatMap(({ item, place }) => (place ? [{ item, place }] : [])).sort((a, b) => urgencyOf(a.item.condition) - urgencyOf(b.item.condition));

/**
 * Puts together what is closer than `distance` in pixels. `sorted` is of `markerOrder`: the first leads those around it, so that a marker is
 * where the worst is, and shows the worst. `pixels` depends on the scale alone, so that groups stay while the map is moved.
 */
export function groupsOf(sorted: readonly { item: FleetItem; place: Place }[], pixels: (place: Place) => Point, distance: number): MarkerGroup[] {
  const groups: MarkerGroup[] = [];
  const byCell = new Map<string, { group: MarkerGroup; at: Point }[]>();
  for (const { item, place } of sorted) {
    const at = pixels(place);
    const [column, row] = [Math.floor(at.x / distance), Math.floor(at.y / distance)];
    const near = nearest(byCell, column, row, at, distance);
    if (near) {
      near.items.push(item);
      continue;
    }
    const group = { lead: item, place, items: [item] };
    groups.push(group);
    const cell = `${column} ${row}`;
    byCell.set(cell, [...(byCell.get(cell) ?? []), { group, at }]);
  }
  return groups;
}

/** How many of them are in alarm: the marker has the reading of one. */
export const alarmsIn = ({ items }: MarkerGroup): number => items.filter(({ condition }) => isAlarm(condition)).length;

/** Gas, and a fault that is critical: what the map says also of detectors that it does not show. */
const mustBeSaid = ({ row, condition }: FleetItem): boolean => isAlarm(condition) || (condition === 'fault' && row.status === 'critical');

/** What is in alarm and in none of the groups that are seen: outside the view, without a place, or not drawn yet. */
export function unseenAlarms(all: readonly { item: FleetItem }[], seen: readonly MarkerGroup[]): FleetItem[] {
  const ids = new Set(seen.flatMap(({ items }) => items.map(({ row }) => row.deviceId)));
  const unseen = all.map(({ item }) => item).filter((item) => mustBeSaid(item) && !ids.has(item.row.deviceId));
  // Only the first have a button: no fault takes it from gas.
  return unseen.sort((a, b) => urgencyOf(a.condition) - urgencyOf(b.condition));
}

/** The part of the map that is seen, in the pixels of the markers. */
export interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** Where the label of a marker is: moved aside by so many pixels, and above its marker instead of below. */
export interface Label {
  aside: number;
  isAbove: boolean;
  /** It covers no label of a more urgent one. Otherwise it is seen when somebody points at its marker. */
  isShown: boolean;
}

/** From the middle of a marker to its label, and the height of a label, in pixels as the style sheet has them. */
const LABEL = { away: 24, height: 42 };
/** At least as wide as the label will be: the style sheet cuts longer ones. */
const widthOf = ({ row }: FleetItem): number => Math.min(182, 8 * Math.max((row.name || row.deviceId).length + 5, 20)) + 20;
/** There is room for one label only. */
const NARROW = 480;

/** The labels of what is in alarm, by the lead of its group. `sorted` has the most urgent first. */
export function labelsOf(sorted: readonly { group: MarkerGroup; at: Point }[], frame: Frame): Map<string, Label> {
  const labels = new Map<string, Label>();
  const taken: Frame[] = [];
  const most = frame.width < NARROW ? 1 : Number.POSITIVE_INFINITY;
  const [right, bottom] = [frame.left + frame.width, frame.top + frame.height];
  for (const { group, at } of sorted) {
    if (!isAlarm(group.lead.condition)) continue;
    const width = widthOf(group.lead);
    const left = Math.max(frame.left, Math.min(at.x - width / 2, right - width));
    const isAbove = at.y + LABEL.away + LABEL.height > bottom;
    const top = isAbove ? at.y - LABEL.away - LABEL.height : at.y + LABEL.away;
    const box = { left, top, width, height: LABEL.height };
    const isInside = at.x >= frame.left && at.x <= right && at.y >= frame.top && at.y <= bottom;
    const isShown = isInside && taken.length < most && !taken.some((other) => overlap(box, other));
    if (isShown) taken.push(box);
    labels.set(group.lead.row.deviceId, { aside: isInside ? left + width / 2 - at.x : 0, isAbove, isShown });
  }
  return labels;
}

const overlap = (a: Frame, b: Frame): boolean =>
  a.left < b.left + b.width && b.left < a.left + a.width && a.top < b.top + b.height && b.top < a.top + a.height;

/** A leader that is near is in the same cell or in one beside it. */
function nearest(byCell: Map<string, { group: MarkerGroup; at: Point }[]>, column: number, row: number, at: Point, distance: number): MarkerGroup | undefined {
  let best: { group: MarkerGroup; far: number } | undefined;
  for (let x = column - 1; x <= column + 1; x += 1) {
    for (let y = row - 1; y <= row + 1; y += 1) {
      for (const { group, at: other } of byCell.get(`${x} ${y}`) ?? []) {
        const far = Math.hypot(at.x - other.x, at.y - other.y);
        if (far < distance && (!best || far < best.far)) best = { group, far };
      }
    }
  }
  return best?.group;
}
