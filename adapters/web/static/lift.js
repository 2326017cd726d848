// @ts-check
/** Moving by touch: a finger that rests on something lifts it; one that moves at once scrolls. */

const REST_MS = 350;

/**
 * @param {HTMLElement} item
 * @param {(x: number, y: number) => void} over where the finger is while something is lifted
 * @param {() => void} drop the finger has let go of it
 */
export function liftable(item, over, drop) {
  let timer = 0;
  let isLifted = false;
  const end = () => {
    clearTimeout(timer);
    isLifted = false;
    item.classList.remove("is-lifted");
  };
  item.addEventListener("touchstart", (event) => {
    end();
    if (event.touches.length !== 1) return;
    timer = setTimeout(() => {
      isLifted = true;
      item.classList.add("is-lifted");
    }, REST_MS);
  }, { passive: true });
  item.addEventListener("touchmove", (event) => {
    if (!isLifted) return clearTimeout(timer);
    event.preventDefault(); // nothing scrolls meanwhile
    over(event.touches[0].clientX, event.touches[0].clientY);
  }, { passive: false });
  item.addEventListener("touchend", (event) => {
    if (isLifted) {
      event.preventDefault(); // no click follows
      drop();
    }
    end();
  });
  item.addEventListener("touchcancel", () => {
    if (isLifted) over(-1, -1);
    end();
  });
  for (const own of ["contextmenu", "dragstart"]) { // what browsers do of their own accord then
    item.addEventListener(own, (event) => isLifted && event.preventDefault());
  }
}
