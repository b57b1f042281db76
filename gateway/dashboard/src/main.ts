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
/** How long the page stays empty while it is asked who uses it. One answer that is lost must not keep it empty. */
const PATIENCE_MS = 3_000;

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

// While the server cannot be asked, or does not answer, the page says so and connects as soon as it can.
const asked = session.load().catch(() => undefined);
await Promise.race([asked, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
createApp(App).use(pinia).use(router).use(gatewayPlugin(gateway)).mount('#app');
