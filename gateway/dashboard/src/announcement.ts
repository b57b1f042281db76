// What is read aloud of new alarms: the most urgent, and how many more there are. Pure.
import { labelOf, type OpenAlarm } from './client';
import { alarmType } from './format';
import { texts } from './texts';

export interface Announcement {
  text: string;
  /** Another one each time: the same words are read aloud again only in a new element. */
  turn: number;
}

export const SILENCE: Announcement = { text: '', turn: 0 };

/** `news` has the most urgent first. */
export function announced(before: Announcement, news: readonly OpenAlarm[], hasSites = false): Announcement {
  const [first] = news;
  if (!first) return before;
  return { text: texts.newAlarm(labelOf(first, hasSites), alarmType(first.type), news.length - 1), turn: before.turn + 1 };
}
