"""The addresses of this app alone, so that its tests do not depend on where the project hangs them."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from notifications.api import EventViewSet, SocketTicketView

router = SimpleRouter(trailing_slash=False)
router.register("events", EventViewSet)
urlpatterns = [path("api/socket-ticket", SocketTicketView.as_view()), path("api/", include(router.urls))]
