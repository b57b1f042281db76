import { useStorage } from '@vueuse/core';
import { defineStore } from 'pinia';

/** Whether single characters are keys of this page. Whoever speaks to the machine strikes them by accident, and turns them off. */
export const useShortcuts = defineStore('shortcuts', () => ({ areOn: useStorage('shortcuts', true) }));
