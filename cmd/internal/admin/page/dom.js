// Small helpers to make and change elements. What has not changed is not touched: with
// 1,000 backends a look is mostly that.

// make('td', {class: 'n'}, 'text', child...) makes an element.
export function make(tag, attributes = {}, ...children) {
  const svg = svgTags.has(tag)
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) set(node, name, value)
  node.append(...children)
  return node
}

const svgTags = new Set(['svg', 'g', 'path', 'line', 'text', 'circle', 'rect'])

// set sets an attribute; null and false take it away.
export function set(node, name, value) {
  if (value === null || value === false || value === undefined) {
    if (node.hasAttribute(name)) node.removeAttribute(name)
    return
  }
  const text = value === true ? '' : String(value)
  if (node.getAttribute(name) !== text) node.setAttribute(name, text)
}

// write sets the text of an element.
export function write(node, text) {
  text = String(text)
  if (node.textContent !== text) node.textContent = text
}

// list keeps the children of parent in line with items: each has a key, is made once and
// updated from then on. Children that stay where they are keep the focus.
export function list(parent, items, key, create, update) {
  const old = parent.keyed ?? new Map()
  const rows = new Map()
  let at = parent.firstElementChild
  for (const item of items) {
    const k = key(item)
    const node = old.get(k) ?? create(item)
    old.delete(k)
    rows.set(k, node)
    update?.(node, item)
    if (node === at) {
      at = at.nextElementSibling
    } else {
      parent.insertBefore(node, at)
    }
  }
  for (const node of old.values()) node.remove()
  parent.keyed = rows
}

// part is the element of a class within another, found once.
export function part(node, name) {
  node.parts ??= {}
  return (node.parts[name] ??= node.querySelector('.' + name))
}

export const byId = id => document.getElementById(id)
