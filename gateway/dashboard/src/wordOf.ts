/** What stands under a key that came from outside: an address, a detector, the server. `constructor` is no key of any record. */
export const wordOf = <T>(words: Readonly<Record<string, T>>, key: string): T | undefined => (Object.hasOwn(words, key) ? words[key] : undefined);
