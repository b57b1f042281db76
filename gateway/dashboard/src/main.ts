import { createPinia } from 'pinia';
import { createApp } from 'vue';

import App from './App.vue';
import { Gateway, SocketLink, gatewayPlugin } from './client';
import { router } from './router';
import { useSession } from './stores/session';
import './styles/base.css';
import './styles/controls.css';
import './styles/print.css';

/** A reload that does not help is not repeated at once. */
const RELOAD_MS = 60_000;

// The server has another build by now, and this page asks for files of its own one.
window.addEventListener('vite:preloadError', () => {
  const last = Number(sessionStorage.getItem('reloaded'));
  if (Date.now() - last < RELOAD_MS) return;
  sessionStorage.setItem('reloaded', String(Date.now()));
  location.reload();
});

const pinia = createPinia();
const session = useSession(pinia);
const gateway = new Gateway({ link: new SocketLink(() => session.token) });

session.rest.onDate = (date) => gateway.clock.observe(date);

// While the server cannot be asked, the page says so and connects as soon as it can.
await session.load().catch(() => undefined);
createApp(App).use(pinia).use(router).use(gatewayPlugin(gateway)).mount('#app');
