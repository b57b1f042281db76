// The map of Leaflet: what is drawn below the markers. No request leaves this server, so there are no tiles of streets: a plan, or a grid.
import { CRS, GridLayer, control, imageOverlay, latLngBounds, map as createMap, type ImageOverlay, type LatLngBoundsExpression, type Map as LeafletMap } from 'leaflet';
import 'leaflet/dist/leaflet.css';
import { onBeforeUnmount, onMounted, ref, shallowRef, type Ref } from 'vue';

import type { SitePlan } from '../client';
import type { Frame, Place, Point } from '../mapView';
import { texts } from '../texts';

/** A detector is found on the metre. */
const DEEPEST = 23;
/** How close the map goes by itself: a hall fills the screen. */
const CLOSE = 19;
/** Markers so far outside are drawn too: they come in while the map is moved. */
const MARGIN = 0.25;

const Grid = GridLayer.extend({
  createTile: () => {
    const tile = document.createElement('div');
    tile.className = 'grid-tile';
    return tile;
  },
});

export interface PlanMap {
  /** Changes whenever places are elsewhere on the screen. */
  turn: Readonly<Ref<number>>;
  zoom: Readonly<Ref<number>>;
  /** The layer that moves with the map. */
  layer: Readonly<Ref<HTMLElement | undefined>>;
  pixels: (place: Place) => Point;
  /** Where it is in the layer. */
  pointOf: (place: Place) => Point;
  /** What is seen of the layer. */
  view: () => Frame;
  isSeen: (place: Place) => boolean;
  /** It is seen, or a bit outside. */
  isNear: (place: Place) => boolean;
  /** Somebody chose what the map shows: it is not moved any more by itself. */
  isChosen: () => boolean;
  /** `isKept`: what the map shows stays. `failed`: the browser cannot show the image. */
  showPlan: (plan: SitePlan, image: string, isKept: boolean, failed: () => void) => void;
  showGrid: (places: readonly Place[], isKept: boolean) => void;
  /** Without a plan it comes close enough to tell detectors of a site apart. */
  goTo: (place: Place) => void;
  comeCloser: (place: Place) => void;
  centre: () => Place;
  reveal: (place: Place) => void;
  /** The map was just moved: what looks like a click is the end of that. */
  wasDragged: () => boolean;
}

const coordinates = ({ latitude, longitude }: Place): [number, number] => [latitude, longitude];
const boundsOf = ({ south, west, north, east }: SitePlan): LatLngBoundsExpression => [
  [south, west],
  [north, east],
];

export function useMap(frame: Readonly<Ref<HTMLElement | null>>, clicked: (place: Place) => void): PlanMap {
  const turn = ref(0);
  const zoom = ref(0);
  const layer = shallowRef<HTMLElement>();
  let map: LeafletMap | undefined;
  let overlay: ImageOverlay | undefined;
  let isChosen = false;
  let observer: ResizeObserver | undefined;
  const grid = new (Grid as unknown as new (options: object) => GridLayer)({ pane: 'tilePane', maxZoom: DEEPEST });

  const current = (): LeafletMap => {
    if (!map) throw new Error('the map is not there yet');
    return map;
  };

  onMounted(() => {
    const created = createMap(frame.value as HTMLElement, {
      crs: CRS.EPSG3857,
      center: [0, 0],
      zoom: 2,
      maxZoom: DEEPEST,
      zoomSnap: 0.1,
      zoomDelta: 1,
      attributionControl: false,
      zoomControl: false,
      // The markers are no part of Leaflet, and would lag behind.
      zoomAnimation: false,
      fadeAnimation: false,
    });
    control.zoom({ zoomInTitle: texts.map.zoomIn, zoomOutTitle: texts.map.zoomOut }).addTo(created);
    control.scale({ imperial: false, maxWidth: 160 }).addTo(created);
    grid.addTo(created);
    created.on('zoomend viewreset moveend resize', () => {
      zoom.value = created.getZoom();
      turn.value += 1;
    });
    created.on('click', ({ latlng }) => clicked({ latitude: latlng.lat, longitude: latlng.lng }));
    for (const input of ['pointerdown', 'wheel', 'keydown']) frame.value?.addEventListener(input, () => (isChosen = true), { passive: true });
    observer = new ResizeObserver(() => created.invalidateSize());
    observer.observe(frame.value as HTMLElement);
    map = created;
    layer.value = created.getPane('markerPane');
  });
  onBeforeUnmount(() => {
    observer?.disconnect();
    map?.remove();
    map = undefined;
  });

  return {
    turn,
    zoom,
    layer,
    pixels: (place) => current().project(coordinates(place)),
    pointOf: (place) => current().latLngToLayerPoint(coordinates(place)),
    view: () => {
      const [{ x: left, y: top }, { x: width, y: height }] = [current().containerPointToLayerPoint([0, 0]), current().getSize()];
      return { left, top, width, height };
    },
    isSeen: (place) => current().getBounds().contains(coordinates(place)),
    isChosen: () => isChosen,
    isNear: (place) => current().getBounds().pad(MARGIN).contains(coordinates(place)),
    showPlan: (plan, image, isKept, failed) => {
      overlay?.remove();
      overlay = imageOverlay(image, boundsOf(plan), { alt: plan.name, className: 'plan' }).on('error', failed).addTo(current());
      grid.remove();
      if (isKept) return;
      isChosen = false;
      current().fitBounds(boundsOf(plan), { padding: [10, 10], animate: false });
    },
    showGrid: (places, isKept) => {
      overlay?.remove();
      overlay = undefined;
      grid.addTo(current());
      if (isKept) return;
      isChosen = false;
      if (places.length > 0) current().fitBounds(latLngBounds(places.map(coordinates)), { padding: [60, 60], maxZoom: CLOSE, animate: false });
    },
    goTo: (place) => {
      isChosen = true;
      const [zoomed, least] = [current().getZoom(), overlay ? 0 : CLOSE - 1];
      current().setView(coordinates(place), Math.max(zoomed, least), { animate: false });
    },
    comeCloser: (place) => void current().setView(coordinates(place), Math.min(DEEPEST, current().getZoom() + 2), { animate: false }),
    centre: () => {
      const { lat, lng } = current().getCenter();
      return { latitude: lat, longitude: lng };
    },
    reveal: (place) => void current().panInside(coordinates(place), { padding: [60, 60], animate: false }),
    wasDragged: () => Boolean((map?.dragging as { moved?: () => boolean } | undefined)?.moved?.()),
  };
}
