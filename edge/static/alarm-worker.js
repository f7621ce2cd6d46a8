/** Rings once, after so many milliseconds: browsers slow down the timers of hidden pages, but not those of workers. */

let timeout;

onmessage = ({ data }) => {
  clearTimeout(timeout);
  if (data !== null) timeout = setTimeout(() => postMessage('now'), data);
};
