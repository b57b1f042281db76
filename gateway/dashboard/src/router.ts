// The paths of this page, all below /ui/. The gateway answers each of them with index.html.
import { createRouter, createWebHistory } from 'vue-router';

import { asKiosk } from './kiosk';
import AlarmsScreen from './screens/AlarmsScreen.vue';
import StartScreen from './screens/StartScreen.vue';
import { useSession } from './stores/session';

export const router = createRouter({
  history: createWebHistory('/ui/'),
  routes: [
    { path: '/', name: 'start', component: StartScreen },
    { path: '/alarms', name: 'alarms', component: AlarmsScreen },
    { path: '/alarms/history', name: 'history', component: () => import('./screens/HistoryScreen.vue') },
    { path: '/alarms/shift', name: 'shift', component: () => import('./screens/ShiftScreen.vue') },
    { path: '/fleet', name: 'fleet', component: () => import('./screens/FleetScreen.vue') },
    { path: '/map', name: 'map', component: () => import('./screens/MapScreen.vue') },
    { path: '/devices/:deviceId', name: 'device', component: () => import('./screens/DeviceScreen.vue'), props: true },
    { path: '/operation', name: 'operation', component: () => import('./screens/OperationScreen.vue') },
    { path: '/sign-in', name: 'sign-in', component: () => import('./screens/SignInScreen.vue') },
    { path: '/:rest(.*)', name: 'not-found', component: () => import('./screens/NotFoundScreen.vue') },
  ],
});

router.beforeEach((to, from) => {
  const { who } = useSession();
  if (who === 'nobody' && to.name !== 'sign-in') return { name: 'sign-in', query: { return: to.fullPath } };
  return asKiosk(to, from) ?? true;
});
