import { describe, expect, it } from 'vitest';

import type { Profile } from '../src/client';
import { changesOf, differences, failureOf, formOf, merged, notTaken, problemOf } from '../src/profileForm';

const profile = (more: Partial<Profile> = {}): Profile => ({ success: true, deviceId: 'OTSM-1', name: 'Boiler', zone: 'Hall 1', site: null, latitude: 18.5, longitude: 73.8, ...more });
const form = formOf(profile());

describe('the form of a detector', () => {
  it('sends what changed, and nothing else; an empty field removes', () => {
    expect(changesOf(form, { ...form })).toEqual({});
    expect(changesOf(form, { ...form, name: ' Boiler 2 ', zone: '' })).toEqual({ name: 'Boiler 2', zone: null });
    expect(changesOf(form, { ...form, name: ' Boiler ' })).toEqual({});
  });

  it('sends a place whole, and removes it whole', () => {
    expect(changesOf(form, { ...form, latitude: '18.6' })).toEqual({ latitude: 18.6, longitude: 73.8 });
    expect(changesOf(form, { ...form, latitude: '', longitude: ' ' })).toEqual({ latitude: null, longitude: null });
    expect(changesOf(formOf(profile({ latitude: null, longitude: null })), { ...form, latitude: '0', longitude: '0' })).toEqual({ latitude: 0, longitude: 0 });
  });

  it('says what a server of an earlier release did not take', () => {
    const { latitude: _, longitude: __, ...earlier } = profile();
    expect(notTaken({ zone: 'Hall 2', latitude: 18.6, longitude: null }, earlier)).toEqual(['latitude', 'longitude']);
    expect(notTaken({ zone: 'Hall 2' }, earlier)).toEqual([]);
    expect(notTaken({ latitude: null, longitude: null }, profile({ latitude: null, longitude: null }))).toEqual([]);
  });

  it('says what cannot be a place', () => {
    const problem = (latitude: string, longitude: string) => problemOf({ ...form, latitude, longitude });
    expect(problem('18.5', '73.8')).toBe('');
    expect(problem('', '')).toBe('');
    expect(problem('-90', '-180')).toBe('');
    expect(problem('18.5', '')).not.toBe('');
    expect(problem('90.1', '0')).toContain('Latitude');
    expect(problem('0', '180.1')).toContain('Longitude');
    expect(problem('18,5', '73.8')).toContain('Latitude');
    expect(problem('0x10', '1e1')).not.toBe('');
  });

  it('says where it can be changed if it is not here, and why it cannot', () => {
    const failure = (status: number, code: string) => failureOf({ status, code, message: 'The message of the server.' }, 'OTSM-1');
    expect(failure(403, 'operators_only')).toContain('--ops-port');
    expect(failure(403, 'operators_only')).toContain('/api/devices/OTSM-1/profile');
    expect(failure(403, 'forbidden')).toContain('You may not change this detector: The message of the server.');
    expect(failure(404, 'unknown_device')).toContain('does not exist');
    expect(failure(503, 'unavailable')).toContain('The message of the server.');
    expect(failure(0, 'no_answer')).toContain('The message of the server.');
  });

  it('never mixes the place that was typed with that of somebody else', () => {
    const theirs = formOf(profile({ latitude: 19.1, longitude: 74.2 }));
    const both = merged(form, { ...form, latitude: '18.6' }, theirs);
    expect([both.latitude, both.longitude]).toEqual(['18.6', '73.8']);
    expect(changesOf(theirs, both)).toEqual({ latitude: 18.6, longitude: 73.8 });
    // Whoever typed no place has theirs, both of it.
    const name = merged(form, { ...form, name: 'Oven' }, theirs);
    expect([name.latitude, name.longitude]).toEqual(['19.1', '74.2']);
    // Both of it is shown as theirs, and is taken together.
    const moved = formOf(profile({ latitude: 19.1 }));
    expect(differences(form, moved)).toEqual(['latitude', 'longitude']);
  });

  it('keeps what was typed when somebody else changed the rest', () => {
    const theirs = formOf(profile({ name: 'Kettle', site: 'Pune' }));
    const mine = { ...form, zone: 'Hall 2' };
    expect(differences(form, theirs)).toEqual(['name', 'site']);
    const both = merged(form, mine, theirs);
    expect(both).toMatchObject({ name: 'Kettle', site: 'Pune', zone: 'Hall 2' });
    expect(changesOf(theirs, both)).toEqual({ zone: 'Hall 2' });
    // Of what both changed, what was typed here stays, and theirs is shown beside it.
    expect(merged(form, { ...form, name: 'Oven' }, theirs).name).toBe('Oven');
  });
});
