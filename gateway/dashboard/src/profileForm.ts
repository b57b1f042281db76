// What operators say of a detector, as a form has it: texts. Pure.
import type { Profile, ProfileChanges, RestError } from './client';
import { texts } from './texts';

export const FIELDS = ['name', 'zone', 'site', 'latitude', 'longitude'] as const;
export type Field = (typeof FIELDS)[number];
export type ProfileForm = Record<Field, string>;

const textOf = (value: string | number | null | undefined): string => (value === null || value === undefined ? '' : String(value));

export const formOf = (profile: Profile): ProfileForm => ({
  name: textOf(profile.name),
  zone: textOf(profile.zone),
  site: textOf(profile.site),
  latitude: textOf(profile.latitude),
  longitude: textOf(profile.longitude),
});

/** Which fields differ. A place is one thing: if one coordinate differs, both do. */
export function differences(a: ProfileForm, b: ProfileForm): Field[] {
  const differs = (field: Field) => a[field].trim() !== b[field].trim();
  const hasMoved = differs('latitude') || differs('longitude');
  return FIELDS.filter((field) => (field === 'latitude' || field === 'longitude' ? hasMoved : differs(field)));
}

/** Why it cannot be sent; empty if it can. */
export function problemOf(form: ProfileForm): string {
  const { latitude, longitude } = form;
  if ((latitude.trim() === '') !== (longitude.trim() === '')) return texts.profile.halfPlace;
  if (!isDegrees(latitude, 90)) return texts.profile.badDegrees(texts.profile.fields.latitude, 90);
  if (!isDegrees(longitude, 180)) return texts.profile.badDegrees(texts.profile.fields.longitude, 180);
  return '';
}

/** Empty is none. A comma may be meant as a point or between two numbers: it is refused. */
function isDegrees(text: string, most: number): boolean {
  const trimmed = text.trim();
  return trimmed === '' || (/^[+-]?\d{1,3}(\.\d+)?$/.test(trimmed) && Math.abs(Number(trimmed)) <= most);
}

/** Why the server did not do it, and where it can be done. */
export function failureOf({ status, code, message }: Pick<RestError, 'status' | 'code' | 'message'>, deviceId: string): string {
  if (code === 'operators_only') return texts.profile.operatorsOnly(deviceId);
  if (status === 401 || status === 403) return texts.profile.forbidden(message);
  if (status === 404) return texts.profile.unknown;
  return texts.profile.failed(message);
}

/** What is sent to make `before` what the form says: what did not change is not sent, and an empty field removes. A place is sent whole. */
export function changesOf(before: ProfileForm, form: ProfileForm): ProfileChanges {
  const changed = new Set(differences(before, form));
  const changes: ProfileChanges = {};
  for (const field of ['name', 'zone', 'site'] as const) if (changed.has(field)) changes[field] = form[field].trim() || null;
  for (const field of ['latitude', 'longitude'] as const) if (changed.has(field)) changes[field] = form[field].trim() === '' ? null : Number(form[field]);
  return changes;
}

/** What was sent and is unknown to the server: one of an earlier release leaves it out, and says that it was done. */
export const notTaken = (changes: ProfileChanges, answer: Partial<Profile>): Field[] => FIELDS.filter((field) => changes[field] !== undefined && answer[field] === undefined);

/** The form after somebody else changed the profile from `before` to `theirs`: what was typed here stays, and the rest is theirs. */
export function merged(before: ProfileForm, form: ProfileForm, theirs: ProfileForm): ProfileForm {
  const typed = new Set(differences(before, form));
  return Object.fromEntries(FIELDS.map((field) => [field, typed.has(field) ? form[field] : theirs[field]])) as ProfileForm;
}
