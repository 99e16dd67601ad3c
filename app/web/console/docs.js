/** The API reference: each request can be tried against this server. */

// Requests go to the server that the page came from, also below a path of a proxy.
const server = new URL('.', document.baseURI).href.replace(/\/$/, '')

const description = await (await fetch('openapi.json')).json()
description.servers = [{ url: server }]

window.SwaggerUIBundle({
  spec: description,
  domNode: document.querySelector('#reference'),
  deepLinking: true,
  docExpansion: 'list',
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
})
