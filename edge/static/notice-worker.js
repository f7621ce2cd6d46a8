/** Shows notices where only a service worker may (phones), and brings the page back when one is tapped. No cache, no fetch. */

addEventListener('install', () => skipWaiting());

addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(clients.matchAll({ type: 'window', includeUncontrolled: true }).then(
    ([page]) => (page ? page.focus() : clients.openWindow('/')),
  ));
});
