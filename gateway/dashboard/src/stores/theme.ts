import { useStorage } from '@vueuse/core';
import { defineStore } from 'pinia';
import { watchEffect } from 'vue';

export type Theme = 'auto' | 'light' | 'dark';

export const useTheme = defineStore('theme', () => {
  const theme = useStorage<Theme>('theme', 'auto');
  // Without the attribute the style sheet follows the system.
  watchEffect(() => {
    if (theme.value === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.value;
  });
  return { theme };
});
