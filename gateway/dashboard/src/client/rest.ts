// Requests to the REST API of the gateway that served this page.
import type { components } from './openapi';
import type { AlarmLogRow } from './events';
import type { Position } from './positions';

type Schemas = components['schemas'];
export type Session = Schemas['Session'];
export type ConnectionAnalytics = Schemas['ConnectionAnalytics'];
export type Audit = Schemas['Audit'];
export type Health = Schemas['Health'];
export type Statistics = Schemas['Statistics'];
export type Logs = Schemas['Logs'];

/** What operators say of a device. */
export type Profile = Schemas['Profile'];

/** The changes of it: what is absent stays, and `null` removes. */
export type ProfileChanges = Partial<Pick<Profile, 'name' | 'zone' | 'site' | 'latitude' | 'longitude'>>;

/** With the tag that says which one it is: a change names it, so that it overwrites nothing that somebody else changed. */
export interface TaggedProfile {
  profile: Profile;
  tag: string;
}

/** A picture of a part of the site, and where on the earth its edges are. */
export type SitePlan = Schemas['SitePlan'];

/** A message that could not be processed. Its texts are those of whoever sent it. */
export type DeadLetter = Schemas['DeadLetter'];
/** A page of them, newest first. `next` leads to older ones, also if a page has none that match. */
export type DeadLetters = Schemas['DeadLetters'];

/** One sample of the history. */
export interface Sample {
  timestamp: string;
  sensor_reading: number | null;
  data_quality: string;
  unit?: string;
  late?: boolean;
}

/** Every sample of a stretch of time. `min` and `max` never hide a peak. Where nothing was received there is none. */
export type Bucket = Schemas['HistoryBucket'];

/** A stretch of time for a chart: each sample of it, or buckets of all of them. */
export interface Chart {
  /** `null`: there are too many of them, or some are not kept. */
  samples: Sample[] | null;
  buckets: Bucket[];
  /** How long a bucket is. */
  bucketMs: number;
  /** When alarms stood. */
  spans: Schemas['AlarmSpan'][];
  /** Before it, alarms may be missing: there were too many. */
  spansIncompleteBefore: string | undefined;
  /** Before it nothing is kept. An older server does not say it. */
  reachesFrom: string | undefined;
}

type History = Omit<Schemas['History'], 'samples'> & { samples: Sample[]; reaches_from?: string };

export interface LogQuery {
  start_date?: string;
  end_date?: string;
  alarm_type?: string;
  severity?: string;
  device_id?: string;
  limit?: number;
  before?: string;
}

/** A page of the alarm log. `next` leads to older rows. */
export type LogPage = { total_count: number; logs: AlarmLogRow[]; next?: string; incomplete_before?: string };

export type Acknowledgement =
  | { result: 'done' }
  /** It had reached a level that the operator had not seen, and stays unacknowledged. */
  | { result: 'escalated' }
  /** It does not exist any more. */
  | { result: 'gone' }
  | { result: 'forbidden'; message: string }
  | { result: 'failed'; message: string };

/** The most characters of a note. */
export const NOTE_MAX = 280;
/** The most characters of the name of who acknowledges. */
export const NAME_MAX = 128;

export class RestError extends Error {
  /** 0: no answer. */
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** What a request has besides its path. */
interface Content {
  body?: object | undefined;
  headers?: Record<string, string>;
}

/** Who sends the requests. */
export interface Credentials {
  token: string | null;
  /** Of a session that is a cookie. */
  csrfToken: string | null;
}

const GIVE_UP_MS = 30_000;
/** In so much time each sample is read. */
export const SHORT_MS = 60 * 60_000;
const HISTORY_PAGE = 1000;
/** A detector that sends more than one reading in a second is drawn in buckets. */
const HISTORY_PAGES = 5;

export class Rest {
  /** Told the server's time with each answer. */
  onDate: (date: string) => void = () => {};
  readonly #credentials: () => Credentials;

  constructor(credentials: () => Credentials) {
    this.#credentials = credentials;
  }

  session(): Promise<Session> {
    return this.get('/auth/session');
  }

  async signOut(): Promise<void> {
    await this.#request('POST', '/auth/logout', {});
  }

  health(): Promise<Health> {
    return this.get('/health');
  }

  analytics(): Promise<ConnectionAnalytics> {
    return this.get('/api/analytics/connections');
  }

  audit(part: 'done' | 'refused', before?: string): Promise<Audit> {
    return this.get('/api/audit', part === 'refused' ? { part, limit: 50, before } : { limit: 50, before });
  }

  deadLetters(query: { reason?: string; before?: string; limit?: number }): Promise<DeadLetters> {
    return this.get('/api/dead-letters', query);
  }

  profile(deviceId: string): Promise<TaggedProfile> {
    return this.#profile('GET', deviceId);
  }

  /** Fails with 412 if it is not the one that the tag names. */
  changeProfile(deviceId: string, tag: string, changes: ProfileChanges): Promise<TaggedProfile> {
    return this.#profile('PUT', deviceId, { body: changes, headers: { 'if-match': tag } });
  }

  async #profile(method: string, deviceId: string, more: Content = {}): Promise<TaggedProfile> {
    const { content, headers } = await this.#answer<Profile>(method, `/api/devices/${encodeURIComponent(deviceId)}/profile`, more);
    return { profile: content, tag: headers.get('etag') ?? '' };
  }

  sitePlans(): Promise<Schemas['SitePlans']> {
    return this.get('/api/site-plans');
  }

  /** Fetched, and not shown by its address: an address has no token. */
  async planImage({ id }: SitePlan): Promise<Blob> {
    const answer = await this.#request('GET', `/api/site-plans/${encodeURIComponent(id)}/image`, {});
    return whole(answer.blob());
  }

  alarmLog(query: LogQuery): Promise<LogPage> {
    return this.get('/alarm-logs', { ...query });
  }

  statistics(query: Pick<LogQuery, 'start_date' | 'end_date' | 'device_id'>): Promise<Statistics> {
    return this.get('/alarm-logs/statistics', { ...query });
  }

  /** Each sample of a short time. Buckets of a longer one, and of one of which too many samples are kept, or not all. */
  async chart(deviceId: string, from: number, until: number, points: number): Promise<Chart> {
    const path = `/api/devices/${encodeURIComponent(deviceId)}/history`;
    const isShort = until - from <= SHORT_MS;
    const newest = await this.get<History>(path, { from, until, points, limit: isShort ? HISTORY_PAGE : 1 });
    const bucketMs = newest.bucket_ms ?? 0;
    // Buckets of samples are as short as was asked for. Longer ones are of rollups: not every sample of the time is kept.
    const isKept = bucketMs <= Math.ceil((until - from + 1) / points);
    return {
      samples: isShort && isKept ? await this.#allSamples(path, from, newest.samples) : null,
      buckets: newest.buckets ?? [],
      bucketMs,
      spans: newest.spans ?? [],
      spansIncompleteBefore: newest.spans_incomplete_before,
      reachesFrom: newest.reaches_from,
    };
  }

  /** Reads the pages before the newest one. `null`: there are more than are read. */
  async #allSamples(path: string, from: number, newest: Sample[]): Promise<Sample[] | null> {
    const samples = [...newest];
    let isFull = newest.length === HISTORY_PAGE;
    for (let pages = 1; isFull; pages += 1) {
      if (pages === HISTORY_PAGES) return null;
      const oldest = samples[0]?.timestamp ?? '';
      const { samples: older } = await this.get<History>(path, { from, until: Date.parse(oldest), limit: HISTORY_PAGE });
      isFull = older.length === HISTORY_PAGE;
      // More in one millisecond than a page holds: what is older cannot be reached.
      if (isFull && older[0]?.timestamp === oldest) return null;
      // The older page has every one of that millisecond, the newer one perhaps only some.
      const newer = samples.filter(({ timestamp }) => timestamp > oldest);
      samples.splice(0, samples.length, ...older, ...newer);
    }
    return samples;
  }

  /** A table (CSV) of each sample of a time, or with `points` of its buckets. */
  async historyTable(deviceId: string, { from, until, points }: { from: number; until: number; points?: number }): Promise<Blob> {
    const path = `/api/devices/${encodeURIComponent(deviceId)}/history.csv`;
    const answer = await this.#request('GET', withQuery(path, { from, until, points }), { headers: { accept: 'text/csv' } });
    return whole(answer.blob());
  }

  /** Acknowledges what the operator has `seen`, and never a level that came later. The `note` is for everybody who sees the alarm. `name`: who does it, if no token says so. */
  async acknowledge(deviceId: string, alarmId: string, seen: Position, note = '', name = ''): Promise<Acknowledgement> {
    const path = `/devices/${encodeURIComponent(deviceId)}/subtronics/alerts/${encodeURIComponent(alarmId)}/acknowledge`;
    try {
      const answer = await this.#send<{ escalated?: boolean }>('POST', path, {
        seen: { epoch: seen.epoch, seq: seen.seq },
        ...(note.trim() ? { note: note.trim() } : {}),
        ...(name.trim() ? { acknowledged_by: name.trim() } : {}),
      });
      return { result: answer.escalated ? 'escalated' : 'done' };
    } catch (error) {
      if (!(error instanceof RestError)) throw error;
      if (error.status === 404) return { result: 'gone' };
      const result = error.status === 403 || error.status === 401 ? 'forbidden' : 'failed';
      return { result, message: error.message };
    }
  }

  get<T>(path: string, query: Record<string, string | number | undefined> = {}): Promise<T> {
    return this.#send('GET', withQuery(path, query));
  }

  async #send<T>(method: string, path: string, body?: object): Promise<T> {
    return (await this.#answer<T>(method, path, { body })).content;
  }

  async #answer<T>(method: string, path: string, content: Content): Promise<{ content: T; headers: Headers }> {
    const answer = await this.#request(method, path, content);
    return { content: await whole<T>(answer.json()), headers: answer.headers };
  }

  /** Fails if the answer is none that was hoped for. Its body may still break off. */
  async #request(method: string, path: string, { body, headers: more }: Content): Promise<Response> {
    const { token, csrfToken } = this.#credentials();
    const headers: Record<string, string> = { accept: 'application/json', ...more };
    if (token) headers.authorization = `Bearer ${token}`;
    if (csrfToken && method !== 'GET') headers['x-csrf-token'] = csrfToken;
    if (body) headers['content-type'] = 'application/json';
    let answer: Response;
    try {
      const signal = AbortSignal.timeout(GIVE_UP_MS);
      answer = await fetch(path, { method, headers, body: body ? JSON.stringify(body) : null, signal });
    } catch {
      throw new RestError(0, 'no_answer', 'The server does not answer.');
    }
    const date = answer.headers.get('date');
    if (date) this.onDate(date);
    if (answer.ok) return answer;
    const content: unknown = await answer.json().catch(() => null);
    const { error_code: code, error_message: message } = (content ?? {}) as Record<string, string>;
    throw new RestError(answer.status, code ?? '', message ?? `${answer.status} ${answer.statusText}`);
  }
}

function withQuery(path: string, query: Record<string, string | number | undefined>): string {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== undefined && value !== '') parameters.set(key, String(value));
  const search = parameters.toString();
  return search ? `${path}?${search}` : path;
}

/** The body of an answer. One that breaks off, or comes too slowly, is as good as none. */
async function whole<T>(body: Promise<T>): Promise<T> {
  try {
    return await body;
  } catch {
    throw new RestError(0, 'no_answer', 'The answer of the server broke off.');
  }
}
