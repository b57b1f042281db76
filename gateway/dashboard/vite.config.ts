import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vitest/config';

// Everything is below /ui/, which is no path of the REST API. A running gateway answers the rest while developing.
const gateway = 'http://127.0.0.1:3002';

export default defineConfig({
  base: '/ui/',
  plugins: [vue()],
  build: {
    // With the output of the other builds, beside the binaries that serve it.
    outDir: '../../target/dashboard',
    emptyOutDir: true,
    // The check of the size reads which files the first page needs.
    manifest: 'manifest.json',
    // The Content-Security-Policy has no `data:`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  // No test waits for anything; a busy machine may take long.
  test: { testTimeout: 120_000 },
  server: {
    proxy: {
      '/socket.io': { target: gateway, ws: true },
      '^/(api|auth|devices|alarm-logs|health|readyz|config|openapi.json)': gateway,
    },
  },
});
